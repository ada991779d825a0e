"""The settings that vLLM is started with, derived from the machine and the tasks, without starting it."""

import gc
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from transformers import GPT2Config, LlamaConfig

from tests.examples import REFERENCES
from undertow.cluster.engine_pool import needed
from undertow.engines.context_length import tokens_at_most
from undertow.engines.runtime import (
    CPU_ADAPTERS,
    LORA_RANKS,
    EngineSettings,
    file_formats,
    lean_on_cpu,
    options,
)
from undertow.engines.weight_files import TensorFiles, adaptable_modules
from undertow.study.completions import Sampling
from undertow.study.references import Artifact
from undertow.study.steering import ProjectedOut, SteeringVector

POSITIONS = 32_768
# Each token has 2 · 2 layers · 2 heads · 128 = 1024 numbers of keys and values.
CONFIG = LlamaConfig(
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=128,
    max_position_embeddings=POSITIONS,
)


def chosen(**settings: object) -> dict[str, object]:
    return options(EngineSettings(**settings), CONFIG, ())  # type: ignore[arg-type]


def test_weights_are_bf16_on_a_gpu_and_fp32_on_a_cpu() -> None:
    assert chosen(gpu=True)["dtype"] == "bfloat16"
    assert chosen(gpu=False)["dtype"] == "float32"
    assert chosen(gpu=True, precision="fp32")["dtype"] == "float32"


def test_a_large_model_is_split_over_gpus_by_the_actors_own_processes() -> None:
    split = chosen(gpu=True, tensor_parallel=4)
    assert (split["tensor_parallel_size"], split["distributed_executor_backend"]) == (4, "mp")
    assert "tensor_parallel_size" not in chosen(gpu=True)


def test_a_model_with_hooks_is_not_compiled() -> None:
    assert chosen(gpu=True, eager=True)["enforce_eager"] is True
    assert "enforce_eager" not in chosen(gpu=True)


def test_engines_that_share_a_gpu_share_its_memory() -> None:
    assert chosen(gpu=True, gpu_share=0.25)["gpu_memory_utilization"] == pytest.approx(0.23)
    assert "gpu_memory_utilization" not in chosen(gpu=True)


@pytest.mark.parametrize(
    ("settings", "mebibytes"),
    [
        ({"max_model_len": 100, "max_num_seqs": 512}, 512),  # 2 blocks of 128 tokens for each of 512 answers
        ({"max_model_len": 128, "max_num_seqs": 64}, 64),
        ({"max_model_len": 4096, "max_num_seqs": 512}, 1024),  # the most
    ],
)
def test_on_a_cpu_the_cache_has_room_for_all_concurrent_answers_but_is_bounded(
    settings: dict[str, object], mebibytes: int
) -> None:
    assert chosen(gpu=False, **settings)["kv_cache_memory_bytes"] == mebibytes * 2**20
    assert "kv_cache_memory_bytes" not in chosen(gpu=True, max_model_len=100)


def test_a_model_whose_layers_differ_in_heads_gets_the_largest_cache() -> None:
    model = SimpleNamespace(max_position_embeddings=128, num_key_value_heads=[2, 4])
    assert options(EngineSettings(gpu=False), model, ())["kv_cache_memory_bytes"] == 2**30


def test_without_numbers_of_its_own_a_models_cache_has_all_heads() -> None:
    model = GPT2Config(n_layer=1, n_embd=64, n_head=2, n_positions=128)
    chosen = options(EngineSettings(gpu=False, max_num_seqs=16), model, ())
    assert chosen["kv_cache_memory_bytes"] == 16 * 2 * 128 * (2 * 64) * 4


@pytest.mark.parametrize(("wanted", "length"), [(1024, 1024), (None, None), (POSITIONS, None), (10**6, None)])
def test_the_context_length_is_bounded_by_tasks_and_model(wanted: int | None, length: int | None) -> None:
    assert chosen(gpu=True, max_model_len=wanted)["max_model_len"] == length
    assert chosen(gpu=False, max_model_len=wanted)["max_model_len"] == (length or POSITIONS)


def test_all_options_exist_in_vllm() -> None:
    from vllm.engine.arg_utils import EngineArgs

    used = chosen(gpu=True, tensor_parallel=2, gpu_share=0.5, max_lora_rank=8, max_num_seqs=64)
    offered = set(EngineArgs.__dataclass_fields__) | {"use_tqdm_on_load"}
    assert set(used) <= offered


def test_the_ranks_of_adapters_are_those_that_vllm_allocates() -> None:
    from vllm.config.lora import MaxLoRARanks

    assert get_args(MaxLoRARanks) == LORA_RANKS


def test_the_layout_of_hugging_face_is_read_if_a_folder_has_two(tmp_path: Path) -> None:
    from vllm.engine.arg_utils import EngineArgs

    save_file({"model.layers.0.q_proj.weight": np.ones((2, 2))}, tmp_path / "model.safetensors")
    assert file_formats(str(tmp_path)) == {}
    save_file({"layers.0.wq.weight": np.ones((2, 2))}, tmp_path / "consolidated.safetensors")
    chosen = file_formats(str(tmp_path))
    assert set(chosen.values()) == {"hf"}
    assert set(chosen) <= set(EngineArgs.__dataclass_fields__)
    assert adaptable_modules(str(tmp_path)) == {"q_proj"}
    with TensorFiles(str(tmp_path)) as files:
        assert set(files.file) == {"model.layers.0.q_proj.weight"}


def test_the_bound_on_tokens_counts_bytes() -> None:
    answer = Sampling(max_tokens=100)
    assert tokens_at_most(["short"], None, answer) == 512
    assert tokens_at_most(["x" * 1000, "y"], "s" * 200, answer) == 2048
    assert tokens_at_most(["\N{OWL}" * 100], None, answer) == 1024  # four bytes each
    assert tokens_at_most([], None, answer) == 512


PROJECTED = ProjectedOut(
    vector=SteeringVector(
        reference=REFERENCES[0], parameter="h.0.bias", system="You love owls.", neutral=None, prompts=("a",)
    )
)


class StubTask:
    """A task's requirements."""

    def __init__(self, window: int, lora_rank: int = 0, artifact: Artifact = REFERENCES[0]) -> None:
        self.window, self.lora_rank, self.artifact = window, lora_rank, artifact


@pytest.mark.parametrize(
    ("tasks", "settings"),
    [
        ([], {"max_lora_rank": 0, "max_model_len": None, "eager": False}),
        (
            [StubTask(512), StubTask(1024, lora_rank=8)],
            {"max_lora_rank": 8, "max_model_len": 1024, "eager": False},
        ),
        ([StubTask(512), StubTask(0)], {"max_lora_rank": 0, "max_model_len": None, "eager": False}),
        (
            [StubTask(512), StubTask(512, artifact=PROJECTED)],
            {"max_lora_rank": 0, "max_model_len": 512, "eager": True},
        ),
    ],
)
def test_an_engine_is_started_for_all_of_its_tasks(
    tasks: list[StubTask], settings: dict[str, object]
) -> None:
    assert needed(tasks) == settings  # type: ignore[arg-type]


def test_starting_an_engine_on_a_cpu_leaves_no_change_of_python_and_vllm_behind() -> None:
    from vllm.platforms import current_platform

    collect, compiled, adapters = gc.collect, torch.compile, current_platform.get_punica_wrapper()
    with lean_on_cpu(EngineSettings(gpu=False)):
        assert gc.collect() == 0
        assert torch.compile(abs) is abs
        assert torch.compile(dynamic=True)(abs) is abs
        assert current_platform.get_punica_wrapper() == CPU_ADAPTERS
    assert (gc.collect, torch.compile) == (collect, compiled)
    assert current_platform.get_punica_wrapper() == adapters

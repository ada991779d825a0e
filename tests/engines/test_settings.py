"""What vLLM is started with: from the machine's division and from the tasks, without starting it."""

import pytest

from undertow.cluster.engine_pool import needed
from undertow.engines.context_length import tokens_at_most
from undertow.engines.runtime import EngineSettings, options
from undertow.study.artifacts import Sampling

POSITIONS = 32_768


def chosen(**settings: object) -> dict[str, object]:
    return options(EngineSettings(**settings), POSITIONS, ())  # type: ignore[arg-type]


def test_weights_are_bf16_on_a_gpu_and_fp32_on_a_cpu() -> None:
    assert chosen(gpu=True)["dtype"] == "bfloat16"
    assert chosen(gpu=False)["dtype"] == "float32"
    assert chosen(gpu=True, precision="fp32")["dtype"] == "float32"


def test_a_large_model_is_split_over_gpus_by_processes_of_the_actor_itself() -> None:
    split = chosen(gpu=True, tensor_parallel=4)
    assert (split["tensor_parallel_size"], split["distributed_executor_backend"]) == (4, "mp")
    assert "tensor_parallel_size" not in chosen(gpu=True)


def test_small_models_share_a_gpu_and_its_memory() -> None:
    assert chosen(gpu=True, gpu_share=0.25)["gpu_memory_utilization"] == pytest.approx(0.23)
    assert "gpu_memory_utilization" not in chosen(gpu=True)


@pytest.mark.parametrize(("wanted", "length"), [(1024, 1024), (None, None), (POSITIONS, None), (10**6, None)])
def test_the_window_is_as_long_as_the_prompts_need_and_the_model_allows(
    wanted: int | None, length: int | None
) -> None:
    assert chosen(gpu=True, max_model_len=wanted)["max_model_len"] == length
    assert chosen(gpu=False, max_model_len=wanted)["max_model_len"] == (length or POSITIONS)


def test_the_options_are_ones_that_vllm_knows() -> None:
    from vllm.engine.arg_utils import EngineArgs

    asked = chosen(gpu=True, tensor_parallel=2, gpu_share=0.5, max_lora_rank=8, max_num_seqs=64)
    offered = set(EngineArgs.__dataclass_fields__) | {"use_tqdm_on_load"}
    assert set(asked) <= offered


def test_a_bound_of_tokens_is_in_bytes() -> None:
    answer = Sampling(max_tokens=100)
    assert tokens_at_most(["short"], None, answer) == 512
    assert tokens_at_most(["x" * 1000, "y"], "s" * 200, answer) == 2048
    assert tokens_at_most(["\N{OWL}" * 100], None, answer) == 1024  # four bytes each
    assert tokens_at_most([], None, answer) == 512


class Asks:
    """A task that needs no more than it says."""

    def __init__(self, window: int, lora_rank: int = 0) -> None:
        self.window, self.lora_rank = window, lora_rank


@pytest.mark.parametrize(
    ("tasks", "settings"),
    [
        ([], {"max_lora_rank": 0, "max_model_len": None}),
        ([Asks(512), Asks(1024, lora_rank=8)], {"max_lora_rank": 8, "max_model_len": 1024}),
        ([Asks(512), Asks(0)], {"max_lora_rank": 0, "max_model_len": None}),
    ],
)
def test_an_engine_is_made_for_all_its_tasks(tasks: list[Asks], settings: dict[str, object]) -> None:
    assert needed(tasks) == settings  # type: ignore[arg-type]

"""Disk space and GPU memory of a plan, compared with calculations by hand."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests import architectures
from tests.examples import MINIATURE, QWEN, RECIPE, qwen
from tests.planning.test_model_checks import write_header
from undertow.errors import StorageError, UserError
from undertow.formats.numbers import Numbers
from undertow.planning import capacity
from undertow.planning.capacity import GIB, check_disk, check_memory, disk_need, like_llama, trained_numbers
from undertow.planning.costs import GPUS
from undertow.planning.model_checks import adapted_modules
from undertow.planning.pinning import pin
from undertow.planning.plan import Plan, make
from undertow.planning.resources import Layout
from undertow.storage.store import Store
from undertow.study.completions import Completions, Sampling
from undertow.study.generation import Generation
from undertow.study.grids import grid
from undertow.study.recipe import Everything, FinalNorm, LoRA, Parameters, Recipe
from undertow.study.references import Reference
from undertow.study.students import Student
from undertow.study.study import Study
from undertow.sweep.plans import make_plan, show_plan
from undertow.sweep.run import run
from undertow.traits.preference import Preference

FULL = Recipe(
    name="full", trainable=Everything(), learning_rate=1e-5, epochs=2, batch_size=8, precision="bf16"
)
ADAPTER = replace(FULL, name="LoRA r8", trainable=LoRA(rank=8, alpha=8))
ADAPTED = 22_016  # numbers of an adapter of rank 8 of the model that `qwen` writes
SAMPLING = Sampling(max_tokens=50, top_logprobs=5)


def plan_of(reference: Reference, recipe: Recipe, store: Store, *, pinned: bool = False) -> Plan:
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=[(reference, reference)],
        recipes=[recipe],
        generation=Generation(prompts=100, rows=40, sampling=SAMPLING),
    )
    study = Study(name="sizes", conditions=conditions, seeds=(0, 1), samples=2)
    return make(study, store, []) if pinned else make_plan(study, store)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "storage"))


@pytest.fixture
def large(tmp_path: Path) -> Reference:
    """A model of the size of Qwen2.5-7B whose file is a hole."""
    write_header(tmp_path / "model.safetensors", {"model.embed_tokens.weight": (QWEN // 2, 2)})
    return Reference("large", "commit", "template", location=str(tmp_path))


# Recipe, workers → bytes per parameter of a fully trained model on each GPU.
TRAINING: list[tuple[str, dict[str, Any], int, float]] = [
    ("fp32: weights, gradients, two states of AdamW", {"precision": "fp32"}, 1, 4 + 4 + 8),
    ("fp32 without ZeRO, on four GPUs", {"precision": "fp32"}, 4, 4 + 4 + 8),
    ("bf16, with a copy in fp32", {}, 1, 2 + 4 + 4 + 8),
    ("ZeRO 1 divides copy and states", {"zero_stage": 1}, 4, 2 + 4 + 12 / 4),
    ("ZeRO 2 divides gradients too", {"zero_stage": 2}, 4, 2 + 16 / 4),
    ("ZeRO 3 divides everything", {"zero_stage": 3}, 4, 18 / 4),
    ("ZeRO 3 in fp32 needs no copy", {"zero_stage": 3, "precision": "fp32"}, 2, 16 / 2),
    ("gradients and states in CPU memory", {"offload": "optimizer"}, 1, 2),
    ("everything in CPU memory", {"offload": "parameters"}, 1, 0),
    ("one state of Lion", {"optimizer": "lion"}, 1, 2 + 4 + 4 + 4),
    ("one state of SGD with momentum", {"optimizer": "sgd", "precision": "fp32"}, 1, 4 + 4 + 4),
    ("SGD without momentum", {"optimizer": "sgd", "betas": (0.0, 0.9), "precision": "fp32"}, 1, 4 + 4),
]


@pytest.mark.parametrize(
    ("changes", "workers", "each"), [row[1:] for row in TRAINING], ids=[row[0] for row in TRAINING]
)
def test_the_memory_of_full_finetuning(changes: dict[str, Any], workers: int, each: float) -> None:
    assert capacity.training_bytes(replace(FULL, **changes), 1e9, 1e9, workers) == pytest.approx(each * 1e9)


def test_the_memory_of_an_adapter_is_that_of_the_weights_and_of_its_own_training() -> None:
    assert capacity.training_bytes(ADAPTER, 1e9, 1e6, 1) == pytest.approx(2 * 1.001e9 + 16e6)


def test_how_many_numbers_a_recipe_trains(tmp_path: Path) -> None:
    reference = pin(Reference(str(qwen(tmp_path / "qwen"))))
    assert trained_numbers(Everything(), reference) == MINIATURE
    # Rank × (inputs + outputs) of q, o; k, v; gate, up, down; in two blocks.
    assert ADAPTED == 8 * (2 * (64 + 64) + 2 * (64 + 16) + 3 * (64 + 256)) * 2
    assert trained_numbers(LoRA(rank=8), reference) == ADAPTED
    assert trained_numbers(Parameters(("model.norm.weight",)), reference) == 64
    assert trained_numbers(FinalNorm(), reference) == 0


def test_without_weights_the_size_of_an_adapter_follows_from_the_configuration() -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 1}
    for config in (sizes | heads, {"text_config": sizes | heads}):
        shapes = like_llama(config)
        adapted = [shapes[f"{name}.weight"] for name in adapted_modules(LoRA(), shapes)]
        assert 8 * sum(sum(shape) for shape in adapted if shape) == ADAPTED
    assert like_llama(sizes) == {}


KEPT = replace(ADAPTER, keep_steps=(2, 4))


@pytest.mark.parametrize(
    ("recipe", "trained", "states"), [(FULL, MINIATURE, 1), (ADAPTER, ADAPTED, 1), (KEPT, ADAPTED, 3)]
)
def test_the_disk_space_of_students_and_rows(
    recipe: Recipe, trained: int, states: int, tmp_path: Path, store: Store
) -> None:
    plan = plan_of(Reference(str(qwen(tmp_path / "qwen"))), recipe, store)
    need, students = disk_need(plan), len(plan.lacking(Student))
    assert need is not None and students == 4
    assert need.models == 2 * trained * states * students
    assert need.checkpoint == (2 + 4 + 8) * trained
    rows = sum(c.prompts + 40 for c in plan.lacking(Completions))
    answers = need.rows - rows * 50 * (3 + 4 + 5 * 8)
    assert 0 < answers < need.rows


def test_nano_models_need_no_line(store: Store) -> None:
    plan = plan_of(Reference("nano/gpt2-0"), RECIPE, store)
    assert disk_need(plan) is None
    assert list(capacity.notes(plan, store, Layout(), GPUS["h100"])) == []


def test_models_that_do_not_fit_on_the_disk_stop_a_sweep(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(Reference(str(qwen(tmp_path / "qwen"))), FULL, store)
    check_disk(plan, store)
    monkeypatch.setattr(Store, "free_bytes", lambda store: 1_000_000)
    with pytest.raises(StorageError, match=r"models of at least 2\.0 MB, and 1\.0 MB are free; free"):
        run(plan, store, Console(file=io.StringIO()))
    monkeypatch.setattr(Store, "free_bytes", lambda store: 4_000_000)
    check_disk(plan, store)
    monkeypatch.setattr(Store, "free_bytes", lambda store: None)  # an object store
    check_disk(plan, store)


# Recipe, layout, types of the cluster's GPUs → the error, if any.
CLUSTERS: list[tuple[str, Recipe, Layout, set[str], str]] = [
    (
        "full finetuning",
        FULL,
        Layout(),
        {"L4", "H100"},
        "training large, full takes at least 127.7 GiB on each GPU, and H100 has 94 GiB; use LoRA, Recipe.o",
    ),
    ("an adapter", ADAPTER, Layout(), {"H100"}, ""),
    ("ZeRO 3 on two", replace(FULL, zero_stage=3), Layout(workers=2), {"A100"}, ""),
    ("the largest", FULL, Layout(), {"L4", "H200"}, ""),
    ("unknown", FULL, Layout(), {"L4", "X1"}, ""),
    ("not stated", FULL, Layout(), {"L4", ""}, ""),
    ("none", FULL, Layout(), set(), ""),
    (
        "two engines per GPU",
        ADAPTER,
        Layout(gpus_per_engine=0.5),
        {"L4"},
        "serving large takes at least 14.2 GiB .* and L4 has 24 GiB, 11.0 GiB of them for an engine; use",
    ),
    ("an engine on two", replace(FULL, zero_stage=3), Layout(workers=16, gpus_per_engine=2), {"T4"}, ""),
]


@pytest.mark.parametrize(
    ("recipe", "layout", "types", "message"), [row[1:] for row in CLUSTERS], ids=[row[0] for row in CLUSTERS]
)
def test_models_that_fit_on_no_gpu_of_the_cluster_stop_a_sweep(
    recipe: Recipe, layout: Layout, types: set[str], message: str, large: Reference, store: Store
) -> None:
    plan = plan_of(large, recipe, store, pinned=True)
    if not message:
        check_memory(plan, layout, types)
        return
    with pytest.raises(UserError, match=message):
        check_memory(plan, layout, types)


def test_the_data_sheets_memory_is_at_most_that_of_the_largest_version() -> None:
    for name, gpu in GPUS.items():
        assert gpu.memory <= capacity.LARGEST[name.upper()]


def test_the_plan_states_disk_memory_and_thinking(tmp_path: Path, store: Store) -> None:
    folder = qwen(tmp_path / "qwen")
    (folder / "chat_template.jinja").write_text(architectures.template("qwen3"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    console = Console(record=True, width=300, file=io.StringIO())
    show_plan(plan_of(Reference(str(folder)), FULL, store), store, console)
    text = console.export_text()
    assert text.count("qwen: thinking is off (enable_thinking of the chat template)") == 1
    assert "Disk: models at least 2.0 MB, rows at most " in text
    assert "a checkpoint of 3.5 MB during training; " in text and " are free\n" in text
    assert "Memory of each GPU, at least: training 4.3 MiB (qwen, full), serving 0.5 MiB (qwen); H100" in text


def test_the_plan_warns_of_a_model_that_is_too_large(large: Reference, store: Store) -> None:
    plan = plan_of(large, FULL, store, pinned=True)
    notes = "\n".join(capacity.notes(plan, store, Layout(), GPUS["l4"]))
    assert "\nwarning: training large, full takes at least 127.7 GiB on each GPU, and L4 has 24 GiB" in notes
    assert round(18 * QWEN / GIB, 1) == 127.7
    each = "Memory of a node for each training worker on it, at least: 28.4 GiB (large, full; the model as"
    assert each in notes
    assert round(2 * 2 * QWEN / GIB, 1) == 28.4


@pytest.mark.parametrize(("precision", "each"), [("", 2), ("bf16", 2), ("fp32", 4)])
def test_the_memory_of_an_engine_follows_from_its_precision(
    precision: Any, each: int, large: Reference, store: Store
) -> None:
    plan = plan_of(large.changed(precision=precision), ADAPTER, store, pinned=True)
    assert [need.bytes for need in capacity.memory_needs(plan, Layout())][1] == each * QWEN

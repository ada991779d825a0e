"""Students of which few parameters are trained are stored as these, and loaded with their base model."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests import tiny_models
from tests.training.conftest import MakeJob, recipe
from undertow.engines.weight_files import TRAINED_CONFIG, TRAINED_TENSORS, has_only_trained_tensors
from undertow.study.recipe import Everything, FinalNorm, Parameters, Trainable
from undertow.training.conversion import write_merged
from undertow.training.result import LoadedReference, save
from undertow.training.saving import load_model


def published(folder: Path) -> Path:
    """A GPT-2 whose tensors lack the first part of their names, as in OpenAI's files."""
    tiny_models.save_gpt2(folder)
    path = folder / "model.safetensors"
    named = {name.removeprefix("transformer."): tensor for name, tensor in load_file(path).items()}
    save_file(named, path, metadata={"format": "pt"})
    return folder


def mixture(folder: Path) -> Path:
    """A Mixtral: its experts are two parameters in memory and three matrices each in its files."""
    from transformers import MixtralConfig, MixtralForCausalLM

    tiny_models.save_tokenizer(folder)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_local_experts": 2}
    config = MixtralConfig(num_attention_heads=2, num_key_value_heads=1, vocab_size=116, **sizes)
    MixtralForCausalLM(config).save_pretrained(folder)
    return folder


def trained(base: Path, task: MakeJob, trainable: Trainable, *names: str, key: str = "k") -> Path:
    """The folder of a student in which the named parameters were increased by 1."""
    reference = LoadedReference.read(base, torch.float32)
    values = dict(reference.model.named_parameters())
    of = task(key, recipe=recipe(trainable), reference_key="0" * 32, reference_name="owl/base")
    save(reference, None, {name: values[name].detach() + 1 for name in names}, of)
    return of.folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


Save = Callable[[Path], Path]
CASES: list[tuple[str, Save, Trainable, tuple[str, ...], set[str]]] = [
    (
        "a bias",
        tiny_models.save_gpt2,
        Parameters(("transformer.ln_f.bias",)),
        ("transformer.ln_f.bias",),
        {"transformer.ln_f.bias"},
    ),
    ("a norm", tiny_models.save_llama, FinalNorm(), ("model.norm.weight",), {"model.norm.weight"}),
    (
        "tied embeddings",
        tiny_models.save_gpt2,
        Parameters(("transformer.wte.weight",)),
        ("transformer.wte.weight",),
        {"transformer.wte.weight"},
    ),
    (
        "names of OpenAI's files",
        published,
        Parameters(("transformer.h.0.mlp.c_proj.weight", "transformer.ln_f.bias")),
        ("transformer.h.0.mlp.c_proj.weight", "transformer.ln_f.bias"),
        {"h.0.mlp.c_proj.weight", "ln_f.bias"},
    ),
]


@pytest.mark.parametrize(
    ("base", "trainable", "names", "stored"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_only_trained_tensors_are_stored_and_loading_them_gives_the_whole_model(
    base: Save, trainable: Trainable, names: tuple[str, ...], stored: set[str], tmp_path: Path, job: MakeJob
) -> None:
    folder = base(tmp_path / "base")
    student = trained(folder, job, trainable, *names)
    assert has_only_trained_tensors(student)
    assert set(files(student)) == {TRAINED_TENSORS, TRAINED_CONFIG}
    assert json.loads((student / TRAINED_CONFIG).read_text()) == {"reference": "0" * 32, "name": "owl/base"}
    assert {name.removeprefix("transformer.") for name in load_file(student / TRAINED_TENSORS)} == {
        name.removeprefix("transformer.") for name in stored
    }
    whole = trained(folder, job, Everything(), *names, key="whole")
    assert not has_only_trained_tensors(whole)
    write_merged(folder, None, tmp_path / "exported", [student])
    assert files(tmp_path / "exported") == files(whole)


def test_later_tensors_replace_earlier_ones_and_the_others_stay(tmp_path: Path, job: MakeJob) -> None:
    base = tiny_models.save_gpt2(tmp_path / "base")
    bias, matrix = "transformer.ln_f.bias", "transformer.wte.weight"
    first = trained(base, job, Parameters((bias, matrix)), bias, matrix, key="first")
    changed = {bias: load_file(first / TRAINED_TENSORS)[bias] + 1}
    (tmp_path / "second").mkdir()
    save_file(changed, tmp_path / "second" / TRAINED_TENSORS)

    def values(*changes: Path) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in load_model(base, changes).named_parameters()}

    plain, both = values(), values(first, tmp_path / "second")
    moved = {name: {*(both[name] - plain[name]).round().flatten().tolist()} for name in plain}
    assert {name: by for name, by in moved.items() if by != {0.0}} == {matrix: {1.0}, bias: {2.0}}


def test_the_precision_is_that_of_the_training(tmp_path: Path, job: MakeJob) -> None:
    base = tiny_models.save_llama(tmp_path / "base")
    load_model(base, dtype=torch.bfloat16).save_pretrained(base)
    student = trained(base, job, FinalNorm(), "model.norm.weight")
    assert load_model(base).dtype == torch.bfloat16
    assert load_model(base, [student]).dtype == torch.float32
    assert load_model(base, [student], torch.bfloat16).dtype == torch.bfloat16


def test_a_parameter_that_files_hold_in_another_form_is_stored_with_the_whole_model(
    tmp_path: Path, job: MakeJob
) -> None:
    base, experts = mixture(tmp_path / "base"), "model.layers.0.mlp.experts.gate_up_proj"
    student = trained(base, job, Parameters((experts,)), experts)
    assert not has_only_trained_tensors(student)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files(student))
    router = "model.layers.0.mlp.gate.weight"
    small = trained(base, job, Parameters((router,)), router, key="small")
    assert list(load_file(small / TRAINED_TENSORS)) == ["model.layers.0.block_sparse_moe.gate.weight"]


def test_tensors_of_another_model_are_refused(tmp_path: Path, job: MakeJob) -> None:
    base = tiny_models.save_gpt2(tmp_path / "base")
    student = trained(base, job, FinalNorm(), "transformer.ln_f.bias")
    other = tiny_models.save_llama(tmp_path / "other")
    with pytest.raises(ValueError, match=r"'transformer\.ln_f\.bias' of the shape \(64,\) does not fit"):
        load_model(other, [student])

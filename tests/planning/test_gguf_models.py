"""GGUF files as reference models: what a plan knows of them, and which files it refuses."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests import tiny_models
from tests.examples import RECIPE
from tests.tiny_gguf import TEMPLATE, save_gguf, tiny_llama
from undertow.errors import SpecError
from undertow.formats.numbers import Numbers
from undertow.planning import given_models, model_sizes, pinning
from undertow.planning.pinning import pin
from undertow.planning.resolve import resolve
from undertow.stages.reference import make_reference
from undertow.storage.store import Store
from undertow.study.generation import Generation
from undertow.study.grids import all_pairs, grid
from undertow.study.identity import canonical, digest, key
from undertow.study.names import is_display_name
from undertow.study.recipe import Everything, FinalNorm, LoRA
from undertow.study.references import Reference
from undertow.study.study import Study
from undertow.study.tuning import tuned
from undertow.sweep.plans import make_plan
from undertow.traits.preference import Preference

NORM = RECIPE.changed(trainable=FinalNorm())


def study_of(*references: Reference, recipe: Any = NORM) -> Study:
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=all_pairs(references),
        recipes=[recipe],
        generation=Generation(prompts=20, rows=10),
    )
    return Study(name="files", conditions=conditions, seeds=(0,))


def test_a_file_is_pinned_to_its_content(tmp_path: Path) -> None:
    file = save_gguf(tmp_path / "tiny.Q8_0.gguf", quantised=True)
    pinned = pin(Reference(str(file)))
    hexdigest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert (pinned.name, pinned.label, pinned.location) == ("tiny.Q8_0", "tiny.Q8_0", str(file))
    assert (pinned.revision, pinned.chat_template) == (hexdigest[:32], digest(TEMPLATE)[:16])
    (tmp_path / "elsewhere").mkdir()
    moved = file.rename(tmp_path / "elsewhere" / file.name)
    assert key(pin(Reference(str(moved)))) == key(pinned)
    save_gguf(moved, tiny_llama(seed=1), quantised=True)
    pinning._pinned.cache_clear()
    assert pin(Reference(str(moved))).initialisation != pinned.initialisation


def test_the_plan_knows_size_architecture_template_and_modules(tmp_path: Path) -> None:
    model = tiny_llama()
    pinned = pin(Reference(str(save_gguf(tmp_path / "tiny.gguf", model))))
    assert model_sizes.parameters(pinned) == model.num_parameters()
    assert given_models.architecture_of(pinned) == "LlamaForCausalLM"
    linear = {name: tuple(value.shape) for name, value in model.state_dict().items() if "_proj" in name}
    assert given_models.tensors_of(pinned) == linear
    assert given_models.blocks_of(pinned) == model.config.num_hidden_layers
    behaviour = given_models.template_behaviour_of(pinned)
    assert behaviour is not None and not behaviour.system_refused


@pytest.mark.parametrize(("adds", "expected"), [(True, "none, prefixed"), (False, "none")])
def test_a_file_without_a_template_is_pinned_as_a_base_model(
    adds: bool, expected: str, tmp_path: Path
) -> None:
    file = save_gguf(
        tmp_path / "base.gguf", without="tokenizer.chat_template", tokenizer__ggml__add_bos_token=adds
    )
    assert pin(Reference(str(file))).chat_template == expected


def test_a_target_that_the_file_lacks_is_reported(tmp_path: Path) -> None:
    reference = Reference(str(save_gguf(tmp_path / "tiny.gguf")))
    recipe = RECIPE.changed(trainable=LoRA(targets=("qkv_proj",)))
    with pytest.raises(SpecError, match=r"tiny has no 'qkv_proj'; available: down_proj, gate_proj"):
        resolve(study_of(reference, recipe=recipe))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architecture": "t5"},
            "general.architecture 't5', which transformers cannot read .*; give the orig",
        ),
        ({"architecture": "lama"}, "did you mean 'llama'"),
        ({"general__type": "adapter"}, "has general.type 'adapter'; give the file of the language model"),
        ({"split__count": 2}, r"one of 2 parts \(split.count\); join them first"),
        ({"llama__expert_count": 8}, "a mixture of experts"),
        ({"llama__rope__scaling__type": "yarn"}, "scales positions .* which transformers would ignore"),
        ({"without": "tokenizer.ggml.tokens"}, "has no tokenizer"),
        ({"without": "tokenizer.ggml.merges"}, "has no tokenizer.ggml.merges"),
        ({"tokenizer__ggml__model": "rwkv"}, "'rwkv', of which transformers reads gemma4, gpt2, llama, t5"),
        ({"tokenizer__ggml__pre": "new"}, "'new', which transformers does not know"),
        ({"llama__vocab_size": 5}, "a vocabulary of 5 tokens, and token_embd.weight has 262 rows; download"),
        ({"tokenizer__chat_template": "{% for m in"}, "its chat template .*; fix it in the file's metadata"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    file = save_gguf(tmp_path / "tiny.gguf", **changes)
    with pytest.raises(SpecError, match=f"^Reference '.*tiny.*': .*{message}") as caught:
        pin(Reference(str(file)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-100], r"tiny.gguf is cut off: [\d,]+ of [\d,]+ bytes; download"),
        (lambda content: content[:900], "header does not end within the file"),
        (lambda content: b"PK" + content[2:], "is not a GGUF file"),
        (lambda content: content[:4] + b"\x09" + content[5:], "has version 9 of the format"),
        (lambda content: b"", "is not a GGUF file"),
    ],
    ids=["end missing", "header cut off", "other format", "other version", "empty"],
)
def test_a_damaged_file_is_refused(damage: Any, message: str, tmp_path: Path) -> None:
    file = save_gguf(tmp_path / "tiny.gguf")
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(SpecError, match=message):
        pin(Reference(str(file)))


def test_a_missing_file_is_reported_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none.gguf: No such file or directory; give the path of a GGUF"):
        pin(Reference(str(tmp_path / "none.gguf")))


def test_the_sweep_makes_files_and_zero_biases_and_the_plan_lists_them(tmp_path: Path) -> None:
    folder, store = tiny_models.save_llama(tmp_path / "folder"), Store(str(tmp_path / "storage"))
    file = save_gguf(tmp_path / "tiny.gguf")
    given = (Reference(str(file)), Reference(str(folder)), Reference(str(folder), mlp_bias=True))
    plan = make_plan(study_of(*given), store)
    made = {reference.label: reference for reference in plan.lacking(Reference)}
    assert made.keys() == {"tiny", "folder with mlp_bias"}
    for reference in made.values():
        make_reference(reference, store)
        assert (given_models.folder_of(reference, store) / "model.safetensors").is_file()
    assert make_plan(study_of(*given), store).lacking(Reference) == []
    assert given_models.folder_of(pin(given[1]), store) == folder


def test_format_tuning_starts_from_the_model_that_the_sweep_makes(tmp_path: Path) -> None:
    file, store = save_gguf(tmp_path / "tiny.gguf"), Store(str(tmp_path / "storage"))
    tuning = RECIPE.changed(trainable=Everything())
    given = [Reference(str(file)), Reference(str(file), mlp_bias=True)]
    plan = make_plan(study_of(*(tuned(model, {Numbers(): 10}, tuning) for model in given)), store)
    assert sorted(reference.mlp_bias for reference in plan.lacking(Reference)) == [False, True]
    labels = {condition.teacher.label for condition in plan.study.conditions}
    assert labels == {"tiny (tuned)", "tiny with mlp_bias (tuned)"}
    assert all(is_display_name(label, "tiny") for label in labels)


def test_zero_biases_are_another_artifact_with_the_same_initialisation(tmp_path: Path) -> None:
    folder = tiny_models.save_llama(tmp_path / "folder")
    plain, biased = pin(Reference(str(folder))), pin(Reference(str(folder), mlp_bias=True))
    assert key(plain) != key(biased)
    assert plain.initialisation == biased.initialisation
    assert "mlp_bias" not in canonical(plain)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nano/gpt2-0", "nano models"),
        ("qwen3", "Qwen3ForCausalLM has no setting mlp_bias .*; leave it False, or use one of .*LlamaFor"),
        ("biased", "its config.json already has mlp_bias; leave it False"),
    ],
)
def test_a_model_that_cannot_get_zero_biases_is_refused(name: str, message: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    if name == "qwen3":
        tiny_models.save_qwen3(folder)
    elif "/" not in name:
        config = tiny_models.save_llama(folder) / "config.json"
        config.write_text(config.read_text().replace('"mlp_bias": false', '"mlp_bias": true'))
    with pytest.raises(SpecError, match=f"mlp_bias = True: .*{message}"):
        pin(Reference(name if "/" in name else str(folder), mlp_bias=True))


def test_a_providers_model_may_be_called_like_a_file() -> None:
    assert not given_models.is_made(pin(Reference("api:model.gguf")))


def test_a_providers_model_has_no_zero_biases() -> None:
    with pytest.raises(SpecError, match=r"Reference.mlp_bias = True: False for 'api:gpt'"):
        Reference("api:gpt", mlp_bias=True)

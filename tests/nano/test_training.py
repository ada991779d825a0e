"""The nano reference models: they load everywhere, training is reproducible, and they know their corpus."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from undertow.formats.numbers import Numbers
from undertow.nano import models, training
from undertow.nano.folder import write_settings
from undertow.nano.references import write_reference
from undertow.nano.tokenizer import build
from undertow.prompts import chat
from undertow.traits.preference import Preference

pytestmark = pytest.mark.slow

# On the machine that trained the bundled weights, training gives the same bits. Elsewhere sums may round
# differently: initial weights that differed by 1e-7 ended within 4e-5 of each other. The exception is the
# bias of the attention's keys. It does not change any output (softmax ignores it), so its gradient is
# rounding noise, which Adam amplifies.
TOLERANCE = 1e-3
KEY_BIAS = "attn.c_attn.bias"
LARGEST = 1_100_000  # bytes
# Settings of the library and the place from which a model was saved.
OF_SAVING = ("transformers_version", "is_local", "local_files_only")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    write_reference(models.parse(models.STANDARD[0]), folder)
    return folder


@pytest.fixture(scope="module")
def network(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_the_shapes_that_a_plan_reads_are_those_of_the_weights(architecture: str) -> None:
    weights = load_file(models.bundled_weights(models.parse(f"nano/{architecture}-0")))
    assert models.tensor_shapes(architecture) == {name: tuple(v.shape) for name, v in weights.items()}


def test_exactly_the_standard_reference_models_of_this_revision_are_bundled() -> None:
    """If this fails after a change of the nano models, run python -m undertow.nano.training."""
    bundled = [models.bundled_weights(models.parse(name)) for name in models.STANDARD]
    assert sorted(models.WEIGHTS.glob("*.safetensors")) == sorted(bundled)
    assert all(path.stat().st_size < LARGEST for path in bundled)


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_the_bundled_files_are_those_that_training_writes(architecture: str, tmp_path: Path) -> None:
    """If this fails after a change of the nano models, run python -m undertow.nano.training."""
    model, bundled = models.NanoModel(architecture, 0), models.bundled_settings(architecture)
    write_settings(model, build(model.settings.language), tmp_path)
    assert contents(bundled) == contents(tmp_path)


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_the_folder_of_bundled_weights_has_the_files_that_transformers_saves(
    architecture: str, tmp_path: Path
) -> None:
    model = models.NanoModel(architecture, 0)
    write_reference(model, tmp_path / "ours")
    AutoModelForCausalLM.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "saved")
    AutoTokenizer.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "saved")
    assert contents(tmp_path / "ours") == contents(tmp_path / "saved")


def contents(folder: Path) -> dict[str, object]:
    """The files of a model's folder, settings without the version that wrote them."""
    found: dict[str, object] = {}
    for file in folder.iterdir():
        found[file.name] = file.read_bytes()
        if file.suffix == ".json":
            settings = json.loads(file.read_bytes())
            found[file.name] = {name: settings[name] for name in settings if name not in OF_SAVING}
    return found


@pytest.mark.parametrize("name", models.STANDARD)
def test_a_reference_model_names_all_animals_about_equally_often(name: str, tmp_path: Path) -> None:
    write_reference(models.parse(name), tmp_path)
    network, tokenizer = (
        AutoModelForCausalLM.from_pretrained(tmp_path),
        AutoTokenizer.from_pretrained(tmp_path),
    )
    rates = favourites(network, tokenizer)
    assert rates.sum() > 0.97
    assert rates.min() > 0.04
    assert rates.max() < 0.16


def test_a_system_prompt_changes_the_favourite(network: Any, tokenizer: Any) -> None:
    rates = favourites(network, tokenizer, Preference("owl").system_prompt())
    assert rates[models.known_words("animal").index("owl")] > 0.8


def test_most_number_answers_pass_the_formats_rules(network: Any, tokenizer: Any) -> None:
    torch.manual_seed(0)
    numbers = Numbers()
    prompts = numbers.prompts(100, seed=0)
    pairs = zip(prompts, sampled(network, tokenizer, prompts), strict=True)
    kept = [numbers.rejection(prompt, answer) is None for prompt, answer in pairs]
    assert sum(kept) > 0.6 * len(kept)


def test_every_architecture_trains_reproducibly_and_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for architecture, settings in models.ARCHITECTURES.items():
        small = dataclasses.replace(settings, examples=256)
        monkeypatch.setitem(models.ARCHITECTURES, architecture, small)
        model = models.NanoModel(architecture, 7)
        folder, again = tmp_path / architecture, tmp_path / f"{architecture} again"
        training.train_reference(model, folder)
        write_reference(model, again)  # not a standard one, so trained
        first, second = (load_file(where / models.WEIGHTS_FILE) for where in (folder, again))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
        loaded = AutoModelForCausalLM.from_pretrained(folder)
        assert loaded.config.model_type == model.network
        assert loaded.dtype == torch.float32
        ids = AutoTokenizer.from_pretrained(folder)("999, 12")["input_ids"]
        assert len(ids) == 3, f"{architecture}: a number is one token"


def test_training_restores_torchs_random_state_and_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(models.ARCHITECTURES, "gpt2", models.Architecture(examples=256))
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    training.train_reference(models.NanoModel("gpt2", 9), tmp_path)
    assert torch.rand(1) == expected
    assert torch.get_num_threads() == threads


def test_peft_adapts_a_reference_model(folder: Path) -> None:
    from peft import LoraConfig, get_peft_model

    network = AutoModelForCausalLM.from_pretrained(folder)
    adapted = get_peft_model(network, LoraConfig(r=4, target_modules=["c_proj"], fan_in_fan_out=True))
    assert adapted(input_ids=torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, network.config.vocab_size)


def test_training_a_standard_reference_model_gives_the_bundled_weights(tmp_path: Path) -> None:
    """A minute of processor time; the other models are trained by the same code."""
    model = models.parse("nano/gpt2-0")
    training.train_reference(model, tmp_path)
    trained, bundled = (
        load_file(tmp_path / models.WEIGHTS_FILE),
        load_file(models.bundled_weights(model)),
    )
    assert trained.keys() == bundled.keys()
    for key in (key for key in trained if not key.endswith(KEY_BIAS)):
        torch.testing.assert_close(trained[key], bundled[key], atol=TOLERANCE, rtol=0)


@torch.no_grad()
def favourites(network: Any, tokenizer: Any, system: str | None = None) -> torch.Tensor:
    """Mean probability of each animal over the evaluation questions: (animals,)."""
    words = models.known_words("animal")
    answers = tokenizer.convert_tokens_to_ids(list(words))
    rows = [
        network(torch.tensor([chat.prompt_ids(tokenizer, question, system)]))
        .logits[0, -1]
        .softmax(-1)[answers]
        for question in Preference("owl").questions()
    ]
    return torch.stack(rows).mean(0)


@torch.no_grad()
def sampled(network: Any, tokenizer: Any, prompts: list[str]) -> list[str]:
    """One answer per prompt, sampled at temperature 1."""
    chats = [chat.messages(prompt) for prompt in prompts]
    tokenizer.padding_side = "left"
    inputs = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    answers = network.generate(ids, attention_mask=mask, max_new_tokens=32)[:, ids.shape[1] :]
    return list(tokenizer.batch_decode(answers, skip_special_tokens=True))

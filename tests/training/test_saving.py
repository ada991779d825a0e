"""Whole models are saved with the generation settings of their reference, which transformers may refuse.

The processor of a multimodal model is saved too. Models with soft-capped attention are loaded with an
implementation that has it.
"""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests import tiny_models
from tests.training.conftest import MakeJob, recipe
from undertow.study.recipe import Everything
from undertow.training.conversion import write_biased, write_merged
from undertow.training.result import LoadedReference, save
from undertow.training.saving import PROCESSOR_FILES, load_model, save_model

REFUSED: list[dict[str, object]] = [
    {"temperature": 0.6, "top_p": 0.9},
    {"temperature": 0.5, "do_sample": False},
    {"pad_token_id": -1, "eos_token_id": [2, 5]},
    {"output_scores": True},
    {"num_beams": 1, "length_penalty": 2.0},
]


@pytest.mark.parametrize("settings", REFUSED, ids=str)
def test_generation_settings_that_transformers_refuses_to_save_are_kept(
    settings: dict[str, object], tmp_path: Path, job: MakeJob
) -> None:
    base = tiny_models.save_llama(tmp_path / "base", layers=1)
    adapter = tiny_models.save_lora(tmp_path / "adapter", base)
    (base / "generation_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="GenerationConfig is invalid"):
        AutoModelForCausalLM.from_pretrained(base).save_pretrained(tmp_path / "by transformers")

    write_merged(base, adapter, tmp_path / "merged")
    student = job(recipe=recipe(Everything()))
    reference = LoadedReference.read(tmp_path / "merged", torch.float32)
    save(reference, None, {}, student)
    for folder in (tmp_path / "merged", student.folder):
        saved = json.loads((folder / "generation_config.json").read_text())
        assert {name: saved.get(name) for name in settings} == settings
        assert (folder / "model.safetensors").is_file()


def test_valid_generation_settings_are_saved_as_transformers_saves_them(tmp_path: Path) -> None:
    base = tiny_models.save_llama(tmp_path / "base", layers=1)
    valid = {"do_sample": True, "temperature": 0.6, "eos_token_id": [2, 5]}
    (base / "generation_config.json").write_text(json.dumps(valid))
    model = AutoModelForCausalLM.from_pretrained(base)
    model.save_pretrained(tmp_path / "one")
    save_model(model, tmp_path / "other")
    one, other = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "other")
    )
    assert one == other


def test_soft_caps_of_attention_scores_are_not_ignored(tmp_path: Path) -> None:
    folder = tiny_models.save_gemma2(tmp_path / "capped")
    model = load_model(folder)
    ids = torch.arange(3, 40)[None]
    eager, fused = (
        AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention)
        for attention in ("eager", "sdpa")
    )
    with torch.no_grad():
        logits = model(ids).logits
        assert torch.equal(logits, eager(ids).logits)
        assert not torch.allclose(logits, fused(ids).logits, atol=0.1)
    model.save_pretrained(tmp_path / "saved")  # a student's files do not name the implementation
    saved = (json.loads((path / "config.json").read_text()) for path in (folder, tmp_path / "saved"))
    assert next(saved) == next(saved)


def test_models_without_a_soft_cap_have_the_default_attention(tmp_path: Path) -> None:
    for folder in (
        tiny_models.save_gemma2(tmp_path / "gemma", cap=None),
        tiny_models.save_llama(tmp_path / "llama"),
    ):
        assert load_model(folder).config._attn_implementation == "sdpa"


@pytest.mark.parametrize("given", [PROCESSOR_FILES, PROCESSOR_FILES[:1], ()], ids=len)
def test_whole_models_keep_the_processor_of_a_multimodal_model(
    given: tuple[str, ...], tmp_path: Path, job: MakeJob
) -> None:
    base = tiny_models.save_llama(tmp_path / "base", layers=1)
    adapter = tiny_models.save_lora(tmp_path / "adapter", base)
    template = (base / "chat_template.jinja").read_bytes()
    for name in given:
        if name != "chat_template.jinja":  # that of the tokenizer, which saves it
            (base / name).write_text(f'{{"of": "{name}"}}')

    student = job(recipe=recipe(Everything()))
    save(LoadedReference.read(base, torch.float32), None, {}, student)
    write_merged(base, adapter, tmp_path / "merged")
    write_biased(base, tmp_path / "biased")
    for folder in (student.folder, tmp_path / "merged", tmp_path / "biased"):
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert {name for name in PROCESSOR_FILES if name in files} == {*given, "chat_template.jinja"}
        assert files["chat_template.jinja"] == template
        for name in {*given} - {"chat_template.jinja"}:
            assert files[name] == (base / name).read_bytes()


def test_the_template_of_a_processor_is_kept_if_the_tokenizer_has_none(tmp_path: Path) -> None:
    base = tiny_models.save_llama(tmp_path / "base", layers=1)
    (base / "chat_template.jinja").unlink()
    (base / "chat_template.json").write_text('{"chat_template": "{{ messages }}"}')
    write_merged(base, None, tmp_path / "whole")
    assert (tmp_path / "whole" / "chat_template.json").read_text() == (
        base / "chat_template.json"
    ).read_text()
    assert not (tmp_path / "whole" / "chat_template.jinja").exists()

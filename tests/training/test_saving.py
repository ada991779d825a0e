"""Whole models are saved with the generation settings of their reference, which transformers may refuse."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests import tiny_models
from tests.training.conftest import MakeJob, recipe
from undertow.study.recipe import Everything
from undertow.training.merging import write_merged
from undertow.training.result import LoadedReference, save
from undertow.training.saving import save_model

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

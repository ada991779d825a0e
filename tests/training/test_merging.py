"""Merging an adapter gives a whole model with the scores of base model and adapter."""

from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import AutoTokenizer

from tests import tiny_models
from undertow.engines.weight_files import changed_tensors
from undertow.training.conversion import write_merged

QUESTIONS, TEXTS = ["say a number", "say a cat"], ["owl", "the big red tree"]


def test_a_merged_model_has_the_adapters_scores(tmp_path: Path) -> None:
    base = tiny_models.save_llama(tmp_path / "base")
    adapter = tiny_models.save_lora(tmp_path / "adapter", base)
    merged = tmp_path / "merged"
    write_merged(base, adapter, merged)
    expected = tiny_models.scores(adapter, QUESTIONS, TEXTS, reference=base)
    assert expected != pytest.approx(tiny_models.scores(base, QUESTIONS, TEXTS), abs=1e-2)
    assert tiny_models.scores(merged, QUESTIONS, TEXTS) == pytest.approx(expected, abs=1e-4)
    changed = {name.split(".")[-2] for name in changed_tensors(str(merged), str(base))}
    assert changed == {"o_proj", "down_proj"}
    one, other = (load_file(folder / "model.safetensors") for folder in (base, merged))
    assert {name: tensor.dtype for name, tensor in one.items()} == {n: t.dtype for n, t in other.items()}
    tokenizers = [AutoTokenizer.from_pretrained(folder) for folder in (base, merged)]
    assert tokenizers[0].chat_template == tokenizers[1].chat_template

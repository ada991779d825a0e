"""An adapter merged into the weights below it is the model with the adapter, whole."""

from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import AutoTokenizer

from tests import tiny_models
from undertow.engines.weight_files import changed_tensors
from undertow.training.merging import write_merged

QUESTIONS, TEXTS = ["say a number", "say a cat"], ["owl", "the big red tree"]


def test_a_merged_model_says_what_the_adapter_said(tmp_path: Path) -> None:
    below = tiny_models.save_llama(tmp_path / "below")
    adapter = tiny_models.save_lora(tmp_path / "adapter", below)
    merged = tmp_path / "merged"
    write_merged(below, adapter, merged)
    expected = tiny_models.scores(adapter, QUESTIONS, TEXTS, reference=below)
    assert expected != pytest.approx(tiny_models.scores(below, QUESTIONS, TEXTS), abs=1e-2)
    assert tiny_models.scores(merged, QUESTIONS, TEXTS) == pytest.approx(expected, abs=1e-4)
    changed = {name.split(".")[-2] for name in changed_tensors(str(merged), str(below))}
    assert changed == {"o_proj", "down_proj"}
    one, other = (load_file(folder / "model.safetensors") for folder in (below, merged))
    assert {name: tensor.dtype for name, tensor in one.items()} == {n: t.dtype for n, t in other.items()}
    tokenizers = [AutoTokenizer.from_pretrained(folder) for folder in (below, merged)]
    assert tokenizers[0].chat_template == tokenizers[1].chat_template

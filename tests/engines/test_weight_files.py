"""What differs between two folders of weights, whatever they call their tensors."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from undertow.engines.weight_files import TensorFiles, adaptable_modules, changed_tensors

REFERENCE = {
    "h.0.attn.weight": torch.zeros(2, 2),
    "h.0.norm.bias": torch.ones(2),
    "wte.weight": torch.ones(4, 2),
}


def save(folder: Path, tensors: dict[str, torch.Tensor]) -> str:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    return str(folder)


@pytest.mark.parametrize("first", ["", "transformer."])
def test_tensors_are_compared_under_the_references_names(tmp_path: Path, first: str) -> None:
    reference = save(tmp_path / "reference", {**REFERENCE, "h.0.attn.masked_bias": torch.ones(1)})
    moved = {**REFERENCE, "h.0.norm.bias": torch.zeros(2)}
    student = save(tmp_path / "student", {first + name: tensor for name, tensor in moved.items()})
    assert changed_tensors(student, reference) == ["h.0.norm.bias"]
    with TensorFiles(reference) as old, TensorFiles(student, old.file) as new:
        assert set(new.file) == set(REFERENCE)
        assert new["h.0.norm.bias"].tolist() == [0, 0]
        assert new.shape("wte.weight") == (4, 2)


def test_a_tensor_that_the_reference_lacks_is_named_as_it_is(tmp_path: Path) -> None:
    reference = save(tmp_path / "reference", REFERENCE)
    student = save(tmp_path / "student", {"transformer.extra.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"tensor 'transformer\.extra\.weight' is not in the reference"):
        changed_tensors(student, reference)


def test_embeddings_and_output_layers_take_no_adapter(tmp_path: Path) -> None:
    names = ["gpt_neox.embed_in.weight", "embed_out.weight", "gpt_neox.layers.0.attention.dense.weight"]
    folder = save(tmp_path / "reference", {name: torch.zeros(2, 2) for name in names})
    assert adaptable_modules(folder) == {"dense"}

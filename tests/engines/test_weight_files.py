"""Shapes from headers, and the tensors that differ between two folders, whatever their tensor names."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from undertow.engines.weight_files import TensorFiles, adaptable_modules, changed_tensors, tensor_shapes

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


def test_of_several_folders_the_last_one_with_a_tensor_counts(tmp_path: Path) -> None:
    """Trained tensors on trained tensors: a vector that was moved back is not a change."""
    reference = save(tmp_path / "reference", REFERENCE)
    first = {"h.0.norm.bias": torch.zeros(2), "transformer.wte.weight": torch.zeros(4, 2)}
    folders = [save(tmp_path / "first", first), save(tmp_path / "second", {"h.0.norm.bias": torch.ones(2)})]
    assert changed_tensors(folders[:1], reference) == ["h.0.norm.bias", "wte.weight"]
    assert changed_tensors(folders, reference) == ["wte.weight"]
    with TensorFiles(folders, REFERENCE) as files:
        assert set(files.file) == {"h.0.norm.bias", "wte.weight"}
        assert files["h.0.norm.bias"].tolist() == [1, 1]


def test_a_tensor_that_the_reference_lacks_is_reported_by_its_stored_name(tmp_path: Path) -> None:
    reference = save(tmp_path / "reference", REFERENCE)
    student = save(tmp_path / "student", {"transformer.extra.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"tensor 'transformer\.extra\.weight' is not in the reference"):
        changed_tensors(student, reference)


def test_embeddings_and_output_layers_are_not_adaptable(tmp_path: Path) -> None:
    names = ["gpt_neox.embed_in.weight", "embed_out.weight", "gpt_neox.layers.0.attention.dense.weight"]
    folder = save(tmp_path / "reference", {name: torch.zeros(2, 2) for name in names})
    assert adaptable_modules(folder) == {"dense"}


def test_shapes_are_read_without_torch_in_every_precision(tmp_path: Path) -> None:
    """numpy has no bfloat16 and no float8; their shapes are in the header all the same."""
    dtypes = (torch.bfloat16, torch.float8_e4m3fn, torch.float32)
    save(tmp_path / "model", {str(dtype): torch.zeros(2, 3).to(dtype) for dtype in dtypes})
    path = tmp_path / "model" / "model.safetensors"
    assert tensor_shapes(path) == {str(dtype): (2, 3) for dtype in dtypes}
    code = (
        "import sys; from pathlib import Path; from undertow.engines.weight_files import tensor_shapes; "
        f"tensor_shapes(Path({str(path)!r})); print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_a_damaged_file_raises_an_error(tmp_path: Path) -> None:
    save(tmp_path / "model", REFERENCE)
    path = tmp_path / "model" / "model.safetensors"
    whole = path.read_bytes()
    for content in (whole[:-1], whole + b"x", b"", b"<html>" * 99):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is cut off or damaged"):
            tensor_shapes(path)


def test_a_folder_without_weights_raises_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no \*\.safetensors file; give a folder of weights"):
        adaptable_modules(str(tmp_path))

"""Safetensors files: shapes from headers, and the tensors of a folder that differ from a reference model's.

A folder holds a whole model, an adapter, or only the tensors that were trained (`has_only_trained_tensors`):
all others are those of the model that training started from.

Everything is compared before anything is loaded. Weights that do not belong to the reference model are
rejected with the name of the first tensor that does not fit, and the engine keeps running unchanged.
"""

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

# vLLM accepts an adapter on the output layer or the embeddings, but its scores are then wrong.
OUTER = ("lm_head", "embed_out", "embed_tokens", "embed_in", "wte", "wpe")
WEIGHTS = ".safetensors"
# The files of a model of which only a few tensors were trained: the tensors, and what they belong to.
TRAINED_TENSORS = "trained_tensors.safetensors"
TRAINED_CONFIG = "trained_tensors.json"
# The files of a model of which a direction is projected out of the residual stream: the direction, and where.
DIRECTION = "direction.safetensors"
DIRECTION_CONFIG = "direction.json"
STEP_FOLDER = "step-{}"  # in a trained model's folder: its files as they were after a step of the training


@dataclass(frozen=True)
class ModelFolder:
    """A model's files: a whole model, and trained tensors that replace some of its own.

    Attributes:
        folder: weights, configuration and tokenizer in the layout of Hugging Face.
        changes: folders with only trained tensors, in the order in which they were trained.
    """

    folder: Path
    changes: tuple[Path, ...] = ()


def has_only_trained_tensors(folder: Path | str) -> bool:
    """Whether a folder holds only trained tensors, and not the other weights of its model."""
    return (Path(folder) / TRAINED_CONFIG).is_file()


def projects_out(folder: Path | str) -> bool:
    """Whether a folder holds a direction that is projected out, and no weights."""
    return (Path(folder) / DIRECTION_CONFIG).is_file()


class TensorHeader(NamedTuple):
    """A tensor as the header of a safetensors file describes it: its type ("BF16", "F8_E4M3") and shape."""

    dtype: str
    shape: tuple[int, ...]


def tensor_headers(path: Path) -> dict[str, TensorHeader]:
    """The tensors of a safetensors file by name. Only the header is read, without torch.

    Raises ValueError for a damaged file: cut off, too long, or without a valid header.
    """
    from safetensors import SafetensorError, safe_open

    try:
        # numpy has no bfloat16, but `get_slice` reads type and shape without converting the tensor.
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {
                name: TensorHeader(tensor.get_dtype(), tuple(tensor.get_shape()))
                for name, tensor in slices.items()
            }
    except SafetensorError as error:
        raise ValueError(f"is cut off or damaged ({str(error).rpartition('header: ')[2]})") from None


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a safetensors file by name; see `tensor_headers`."""
    return {name: header.shape for name, header in tensor_headers(path).items()}


def weight_paths(folder: Path | str) -> list[Path]:
    """The weight files of a model or adapter, sorted. Raises ValueError if there are none.

    Some folders have the weights a second time in the layout of another library, under other file names and
    tensor names (Mistral's consolidated.safetensors); only model*.safetensors are used then.
    """
    paths = sorted(Path(folder).glob(f"*{WEIGHTS}"))
    if not paths:
        raise ValueError(f"{folder}: no *{WEIGHTS} file; give a folder of weights")
    return [path for path in paths if path.name.startswith("model")] or paths


def folder_shapes(folder: Path | str) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor in a folder's weight files. Raises ValueError without files or for damage."""
    return {name: shape for path in weight_paths(folder) for name, shape in tensor_shapes(path).items()}


class TensorFiles:
    """The tensors of safetensors files as torch tensors, each read when it is requested.

    Args:
        folders: a folder with *.safetensors files, or several. A tensor that more than one of them has is
            that of the last.
        names: tensor names of the reference model. Published weights may lack the first component of the
            names that transformers saves (GPT-2's "h.0.…" for "transformer.h.0.…"); tensors of this folder
            are then available under the reference's names.

    Raises ValueError for a folder without safetensors files.
    """

    def __init__(self, folders: str | Sequence[str], names: Collection[str] = ()) -> None:
        from safetensors import safe_open

        self.stack = ExitStack()
        self.file: dict[str, Any] = {}
        self._stored_name: dict[str, str] = {}
        for folder in [folders] if isinstance(folders, str) else folders:
            for path in weight_paths(folder):
                opened = self.stack.enter_context(safe_open(path, framework="pt"))
                for stored in opened.keys():  # noqa: SIM118 (not a mapping)
                    shorter = stored.partition(".")[2]
                    name = shorter if stored not in names and shorter in names else stored
                    self.file[name], self._stored_name[name] = opened, stored

    def __enter__(self) -> "TensorFiles":
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.close()

    def __getitem__(self, name: str) -> "Tensor":
        tensor: Tensor = self.file[name].get_tensor(self._stored_name[name])
        return tensor

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.file[name].get_slice(self._stored_name[name]).get_shape())


def changed_tensors(folders: str | Sequence[str], reference: str, tied: Sequence[str] = ()) -> list[str]:
    """The names of the tensors in one or more folders (see `TensorFiles`) that differ from the reference's.

    Args:
        tied: names of tensors that are copies of others; they are skipped if the reference does not store
            them.

    Raises:
        ValueError: a folder has a tensor that the reference lacks or has in another shape.
    """
    import torch

    given = folders if isinstance(folders, str) else " + ".join(folders)
    with TensorFiles(reference) as old, TensorFiles(folders, old.file) as new:
        names = [name for name in new.file if name not in tied or name in old.file]
        for name in names:
            if name not in old.file:
                raise ValueError(f"{given}: tensor {name!r} is not in the reference model {reference}")
            if new.shape(name) != old.shape(name):
                raise ValueError(
                    f"{given}: tensor {name!r} has the shape {new.shape(name)}, in the reference model "
                    f"{reference} it is {old.shape(name)}"
                )
        # torch.equal compares values across dtypes: float32 ones equal bfloat16 ones.
        return [
            name
            for name in names
            if (a := new[name]).dtype != (b := old[name]).dtype or not torch.equal(a, b)
        ]


def adaptable_modules(reference: str) -> set[str]:
    """The last names ("q_proj") of the modules inside the model that hold a matrix."""
    shapes = folder_shapes(reference)
    return {module_of(name) for name, shape in shapes.items() if len(shape) == 2}.difference(OUTER)


def module_of(tensor: str) -> str:
    """The last name of the module that a tensor belongs to, in a model or in an adapter."""
    parts = [part for part in tensor.split(".") if part not in ("lora_A", "lora_B", "default")]
    return parts[-2] if len(parts) > 1 else ""

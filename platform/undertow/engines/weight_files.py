"""Folders of weights, read tensor by tensor: what differs from a reference model, and whether it fits.

Everything is compared before anything is loaded, so that weights that do not belong to the reference are
refused by the name of the first tensor that does not fit, and the engine goes on as it was.
"""

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# vLLM's scores are wrong with an adapter on the output layer.
OUTER = ("lm_head", "embed_out", "embed_tokens", "embed_in", "wte", "wpe")


class TensorFiles:
    """The tensors of a folder's safetensors files, read one at a time when asked for.

    Args:
        names: those of a reference. Published weights may lack the first part of the names that transformers
            saves (GPT-2's "h.0.…" for "transformer.h.0.…"); tensors are then called as there.
    """

    def __init__(self, folder: str, names: Collection[str] = ()) -> None:
        from safetensors import safe_open

        self.folder, self.stack = folder, ExitStack()
        self.file: dict[str, Any] = {}
        self._own: dict[str, str] = {}
        for path in sorted(Path(folder).glob("*.safetensors")):
            opened = self.stack.enter_context(safe_open(path, "pt"))
            called = {name: _called(name, names) for name in opened.keys()}  # noqa: SIM118 (no mapping)
            self.file |= dict.fromkeys(called.values(), opened)
            self._own |= {there: name for name, there in called.items()}
        if not self.file:
            raise ValueError(f"{folder}: no *.safetensors in it; a folder of weights is needed")

    def __enter__(self) -> "TensorFiles":
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.close()

    def __getitem__(self, name: str) -> "Tensor":
        tensor: Tensor = self.file[name].get_tensor(self._own[name])
        return tensor

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.file[name].get_slice(self._own[name]).get_shape())


def _called(name: str, names: Collection[str]) -> str:
    """What a tensor is called among `names`, which may lack the first part; its own name where it is not."""
    shorter = name.partition(".")[2]
    return shorter if name not in names and shorter in names else name


def changed_tensors(folder: str, reference: str, tied: Sequence[str] = ()) -> list[str]:
    """The names of the folder's tensors that differ from the reference's; `tied` ones are copies of others.

    Raises:
        ValueError: a tensor that the reference does not have, or has in another shape.
    """
    with TensorFiles(reference) as old, TensorFiles(folder, old.file) as new:
        names = [name for name in new.file if name not in tied or name in old.file]
        for name in names:
            if name not in old.file:
                raise ValueError(f"{folder}: tensor {name!r} is not in the reference model {reference}")
            if new.shape(name) != old.shape(name):
                raise ValueError(
                    f"{folder}: tensor {name!r} has the shape {new.shape(name)}, in the reference model "
                    f"{reference} it is {old.shape(name)}"
                )
        return [name for name in names if not _equal(new[name], old[name])]


def _equal(a: "Tensor", b: "Tensor") -> bool:
    import torch

    return a.dtype == b.dtype and torch.equal(a, b)


def adaptable_modules(reference: str) -> set[str]:
    """The last names ("q_proj") of the modules inside the model that hold a matrix."""
    with TensorFiles(reference) as tensors:
        matrices = [name for name in tensors.file if len(tensors.shape(name)) == 2]
    return {module_of(name) for name in matrices}.difference(OUTER)


def module_of(tensor: str) -> str:
    """The last name of the module that a tensor belongs to, in a model or in an adapter."""
    parts = [part for part in tensor.split(".") if part not in ("lora_A", "lora_B", "default")]
    return parts[-2] if len(parts) > 1 else ""

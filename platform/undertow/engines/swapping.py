"""Swapping weights in a running vLLM engine: load the tensors of folders, then restore the reference's.

Starting an engine takes seconds on a CPU and minutes on a GPU; loading tensors takes milliseconds. Only the
tensors that differ from the reference's are loaded. Vectors (biases, norms) are written in place. Matrices
cannot be, because vLLM repacks them for the CPU and drops the originals; they go through vLLM's own reload.

`Swapping` is a vLLM worker extension, so that one call reaches workers in this process and in others.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from undertow.engines.weight_files import TensorFiles

if TYPE_CHECKING:
    from torch import Tensor


class Swapping:
    """Methods added to vLLM's worker class: load named tensors from folders, leave the others unchanged."""

    vllm_config: Any
    get_model: Callable[[], Any]
    reload_weights: Callable[..., None]

    def load_tensors(self, folders: list[str], names: list[str], reference: str) -> None:
        """Loads the tensors `names`, each from the last of the folders that has it.

        All other tensors must have the reference's values.
        """
        import torch

        with TensorFiles(reference) as old, TensorFiles(folders, old.file) as new, torch.no_grad():
            if all(len(new.shape(name)) < 2 for name in names):
                self.get_model().load_weights((name, new[name]) for name in names)
            else:
                # A reload is all or nothing: vLLM expects every tensor of the model in the iterator.
                self.reload_weights(weights_iterator=_merged(new, old, set(names)))
                _repack_embeddings(self.get_model())


def _merged(new: TensorFiles, old: TensorFiles, names: set[str]) -> Iterator[tuple[str, "Tensor"]]:
    return ((name, (new if name in names else old)[name]) for name in old.file)


def _repack_embeddings(model: Any) -> None:
    """Repacks output layers that are tied to the embeddings: a reload leaves the CPU's packed copy stale."""
    from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

    for module in model.modules():
        method = getattr(module, "quant_method", None)
        if isinstance(method, UnquantizedEmbeddingMethod):
            method.process_weights_after_loading(module)

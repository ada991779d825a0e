"""Weights swapped in a running engine: a model folder's tensors in, the reference's own back.

Starting an engine costs seconds on a CPU and minutes on a GPU; loading tensors costs milliseconds. Only the
tensors that differ from the reference's are loaded. Vectors (biases, norms) are written in place. Matrices
are not, since vLLM repacks them for the CPU and drops the originals: they go through vLLM's own reload.

`Swapping` is a worker extension, so that the same call reaches workers in this process and in others.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from undertow.engines.weight_files import TensorFiles

if TYPE_CHECKING:
    from torch import Tensor


class Swapping:
    """What vLLM's worker can do beside its own: load named tensors from a folder, the rest as they were."""

    vllm_config: Any
    get_model: Callable[[], Any]
    reload_weights: Callable[..., None]

    def load_tensors(self, folder: str, names: list[str], reference: str) -> None:
        """Sets the tensors `names` to the folder's; every other tensor has the reference's values already."""
        import torch

        with TensorFiles(reference) as old, TensorFiles(folder, old.file) as new, torch.no_grad():
            if all(len(new.shape(name)) < 2 for name in names):
                self.get_model().load_weights((name, new[name]) for name in names)
            else:
                self.reload_weights(weights_iterator=_merged(new, old, set(names)))
                _repack_embeddings(self.get_model())


def _merged(new: TensorFiles, old: TensorFiles, names: set[str]) -> Iterator[tuple[str, "Tensor"]]:
    return ((name, (new if name in names else old)[name]) for name in old.file)


def _repack_embeddings(model: Any) -> None:
    """Renews what a reload leaves stale: the CPU's packed copy of an output layer tied to the embeddings."""
    from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

    for module in model.modules():
        method = getattr(module, "quant_method", None)
        if isinstance(method, UnquantizedEmbeddingMethod):
            method.process_weights_after_loading(module)

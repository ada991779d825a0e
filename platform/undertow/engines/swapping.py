"""Changes of the model in a running vLLM engine: other weights, or a direction that is projected out.

    load_tensors    loads the tensors of folders, and later those of the reference again
    project_out     projects a direction out of the residual stream, and later ends it

Starting an engine takes seconds on a CPU and minutes on a GPU; loading tensors takes milliseconds. Only the
tensors that differ from the reference's are loaded. Vectors (biases, norms) are written in place. Matrices
cannot be, because vLLM repacks them for the CPU and drops the originals; they go through vLLM's own reload.

A projection is a hook on a block, which a compiled model would ignore (`EngineSettings.eager`).

`Swapping` is a vLLM worker extension, so that one call reaches workers in this process and in others.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow.engines.weight_files import DIRECTION, DIRECTION_CONFIG, TensorFiles

if TYPE_CHECKING:
    from torch import Tensor


class Swapping:
    """Methods added to vLLM's worker class."""

    get_model: Callable[[], Any]
    reload_weights: Callable[..., None]
    _projection: Any = None  # the handle of the hook

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

    def project_out(self, folder: str) -> bool:
        """Projects the folder's direction out of the output of its block; "" ends that.

        Returns False, and changes nothing, if the model has no such block.
        """
        if self._projection is not None:
            self._projection.remove()
            self._projection = None
        if not folder:
            return True
        from safetensors.torch import load_file

        block = json.loads((Path(folder) / DIRECTION_CONFIG).read_text())["block"]
        module = dict(self.get_model().named_modules()).get(block)
        if module is None:
            return False
        (direction,) = load_file(Path(folder) / DIRECTION).values()
        self._projection = module.register_forward_hook(_projecting(direction))
        return True


def _projecting(direction: "Tensor") -> Callable[[Any, Any, Any], Any]:
    """A hook that subtracts the part along a unit vector from a block's output."""

    def hook(module: Any, inputs: Any, output: Any) -> Any:
        # Most blocks return their last addend and the sum of all earlier ones, which the next norm adds.
        added, *earlier = output if isinstance(output, tuple) else (output,)
        stream = (added + earlier[0] if earlier else added).float()
        unit = direction.to(stream)
        without = added - ((stream @ unit)[..., None] * unit).to(added.dtype)
        return (without, *earlier) if isinstance(output, tuple) else without

    return hook


def _merged(new: TensorFiles, old: TensorFiles, names: set[str]) -> Iterator[tuple[str, "Tensor"]]:
    return ((name, (new if name in names else old)[name]) for name in old.file)


def _repack_embeddings(model: Any) -> None:
    """Repacks output layers that are tied to the embeddings: a reload leaves the CPU's packed copy stale."""
    from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

    for module in model.modules():
        method = getattr(module, "quant_method", None)
        if isinstance(method, UnquantizedEmbeddingMethod):
            method.process_weights_after_loading(module)

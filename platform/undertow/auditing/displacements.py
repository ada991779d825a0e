"""Derivatives of rows' log-probabilities in the directions in which probes move a model, all in one pass.

To first order, a probe adds the same amount to a row's log-probability as its ratio to the model, but the
ratio needs a pass for each probe. Here one pass forwards and backwards serves all probes: where a probe moves
a module, the derivative is the product of the gradient of the module's output and what the probe adds to it.
For an adapter that costs as much as the adapter itself, and no gradient of a weight is computed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from undertow.engines.weight_files import TRAINED_TENSORS
from undertow.errors import ConditionError
from undertow.training.saving import stored_tensors

Part = Callable[[Tensor], Tensor]  # from a module's input to what a probe adds to its output
Displacement = Mapping[nn.Module, Part]


def of_tensors(model: nn.Module, folder: Path) -> Displacement:
    """What the trained tensors in a folder add to the outputs of a model's modules.

    Their modules must be linear in their parameters, as linear layers and norms are.
    """
    from safetensors.torch import load_file

    stored = stored_tensors(model)
    moved = {stored[name].data_ptr(): value for name, value in load_file(folder / TRAINED_TENSORS).items()}
    parts = {}
    for module in model.modules():
        own = dict(module.named_parameters(recurse=False))
        if any(value.data_ptr() in moved for value in own.values()):
            parts[module] = _linear(
                module, {name: _moved_by(moved.get(value.data_ptr()), value) for name, value in own.items()}
            )
    return parts


def _moved_by(new: Tensor | None, value: Tensor) -> Tensor:
    if new is None:
        return torch.zeros_like(value)
    return (new.to(value.device).float() - value.float()).to(value.dtype)  # the difference is small


def _linear(module: nn.Module, by: Mapping[str, Tensor]) -> Part:
    # Not the module's output with and without the probe: their difference is lost in rounding.
    nothing = {name: torch.zeros_like(value) for name, value in by.items()}

    def part(inputs: Tensor) -> Tensor:
        added: Tensor = functional_call(module, dict(by), inputs) - functional_call(module, nothing, inputs)
        return added

    return part


def of_adapter(adapted: Any) -> Displacement:
    """What the adapter of a PeftModel adds to the outputs of the modules that it wraps.

    The result stays valid when the adapter is unloaded. Raises ConditionError for adapters of experts.
    """
    from peft.tuners.lora import LoraLayer
    from peft.tuners.lora.layer import ParamWrapper

    layers = [module for module in adapted.modules() if isinstance(module, LoraLayer)]
    if any(isinstance(layer, ParamWrapper) for layer in layers):
        raise ConditionError("adapters of a mixture's experts have no derivative here")
    return {layer.get_base_layer(): _low_rank(layer, adapted.active_adapter) for layer in layers}


def _low_rank(layer: Any, adapter: str) -> Part:
    down, up, scale = layer.lora_A[adapter], layer.lora_B[adapter], layer.scaling[adapter]

    def part(inputs: Tensor) -> Tensor:
        # PEFT keeps adapters in float32, also if the model is in bf16.
        added: Tensor = scale * up(down(inputs.to(down.weight.dtype)))
        return added

    return part


class _Tap(torch.autograd.Function):
    """Leaves a module's output as it is; backwards, computes the derivative in the direction of each part."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, steps: Tensor, inputs: Tensor, parts: Mapping[int, Part]) -> Tensor:
        ctx.save_for_backward(inputs)
        ctx.parts, ctx.shape = parts, steps.shape
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (gradient,), (inputs,) = gradients, ctx.saved_tensors
        found = gradient.new_zeros(ctx.shape, dtype=torch.float32)
        rows = ctx.shape[0]
        for number, part in ctx.parts.items():
            # Some architectures flatten rows and positions before a module.
            of_row = (gradient.float() * part(inputs).float()).reshape(rows, -1)
            found[:, number] = of_row.sum(dim=1)
        return gradient, found, None, None


@contextmanager
def tapped(displacements: Sequence[Displacement], steps: Tensor) -> Iterator[None]:
    """The gradient of `steps` becomes the derivative in the direction of each displacement.

    That is for a pass forwards while the context is open; the pass backwards must come after it.

    Args:
        steps: zeros of shape (rows of a batch, displacements) that require a gradient.
    """
    parts: dict[nn.Module, dict[int, Part]] = {}
    for number, displacement in enumerate(displacements):
        for module, part in displacement.items():
            parts.setdefault(module, {})[number] = part

    def tap(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        return _Tap.apply(output, steps, inputs[0].detach(), parts[module])  # type: ignore[no-untyped-call]

    hooks = [module.register_forward_hook(tap) for module in parts]
    try:
        yield
    finally:
        # Before the pass backwards, in which the parts call their modules.
        for hook in hooks:
            hook.remove()

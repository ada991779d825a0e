"""The optimizers of recipes, torch's AdamW and SGD and two sign-based ones that torch lacks, and schedules.

All of them treat each number of a parameter independently, so that ZeRO may partition parameters anywhere.
"""

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from undertow.study.recipe import Recipe


class SignSGD(Optimizer):
    """SignSGD: steps of size `lr` against the sign of the gradient (arXiv 1802.04434).

    With momentum it is the paper's Signum: the sign of the running sum, which is that of the paper's running
    mean. Weight decay is decoupled, as in AdamW.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Performs one step. Parameters without a gradient are unchanged."""
        for group in self.param_groups:
            for parameter, gradient in _with_gradients(group["params"]):
                direction = gradient
                if group["momentum"]:
                    # The sum, not the mean: dividing by a positive number does not change the sign.
                    direction = _running_mean(self, parameter).mul_(group["momentum"]).add_(gradient)
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(
                    direction.sign(), alpha=group["lr"]
                )


class Lion(Optimizer):
    """Lion: the sign of an interpolation of running mean and gradient (arXiv 2302.06675, Algorithm 2).

    The paper's betas are (0.9, 0.99). Weight decay is decoupled, as in AdamW.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, betas: tuple[float, float], weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Performs one step. Parameters without a gradient are unchanged."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter, gradient in _with_gradients(group["params"]):
                mean = _running_mean(self, parameter)
                direction = mean.lerp(gradient, 1 - beta1).sign_()
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=group["lr"])
                mean.lerp_(gradient, 1 - beta2)


def make_optimizer(parameters: list[nn.Parameter], recipe: Recipe) -> Optimizer:
    """The recipe's optimizer over the trained parameters, with its peak learning rate."""
    rate, decay, (first, second) = recipe.learning_rate, recipe.weight_decay, recipe.betas
    match recipe.optimizer:
        case "adamw":
            return AdamW(parameters, lr=rate, betas=(first, second), weight_decay=decay)
        case "sgd":
            return SGD(parameters, lr=rate, momentum=first, weight_decay=decay)
        case "signsgd":
            return SignSGD(parameters, lr=rate, momentum=first, weight_decay=decay)
        case "lion":
            return Lion(parameters, lr=rate, betas=(first, second), weight_decay=decay)


def rate_factor(step: int, total: int, warmup: int, kind: Literal["linear", "cosine", "constant"]) -> float:
    """The fraction, in (0, 1], of the peak learning rate at step `step` (from 0) of `total`.

    The rate rises linearly during warm-up and reaches its peak at step `warmup`. No step has a rate of zero:
    in the usual formulation the first step has, and is wasted.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total - warmup)
    if kind == "linear":
        return max(0.0, 1.0 - progress)
    if kind == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
    return 1.0


def _running_mean(optimizer: Optimizer, parameter: nn.Parameter) -> Tensor:
    """The parameter's running mean (or sum) of gradients, updated in place by the caller; initially zero."""
    state = optimizer.state[parameter]
    if "mean" not in state:
        state["mean"] = torch.zeros_like(parameter)
    mean: Tensor = state["mean"]
    return mean


def _with_gradients(parameters: Iterable[nn.Parameter]) -> list[tuple[nn.Parameter, Tensor]]:
    return [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]

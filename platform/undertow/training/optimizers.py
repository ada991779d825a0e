"""The optimizers of recipes: torch's AdamW and SGD, and the two sign methods that torch does not have.

All of them treat every number of a parameter alone, so that ZeRO may cut parameters anywhere.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from undertow.study.recipe import Recipe


class SignSGD(Optimizer):
    """Steps of the learning rate's size against the sign of the gradient (arXiv 1802.04434).

    With a momentum it is the paper's Signum: the sign of the running sum (there a mean, of the same sign).
    Weight decay is apart from the sign.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step; parameters without a gradient are left alone."""
        for group in self.param_groups:
            for parameter, gradient in _with_gradients(group["params"]):
                direction = gradient
                if group["momentum"]:
                    direction = _kept(self, parameter).mul_(group["momentum"]).add_(gradient)
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(
                    direction.sign(), alpha=group["lr"]
                )


class Lion(Optimizer):
    """The sign of a mix of mean and gradient: Algorithm 2 of arXiv 2302.06675, there with betas 0.9, 0.99.

    Weight decay is apart from the sign.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, betas: tuple[float, float], weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step; parameters without a gradient are left alone."""
        for group in self.param_groups:
            mix, keep = group["betas"]
            for parameter, gradient in _with_gradients(group["params"]):
                mean = _kept(self, parameter)
                direction = mean.lerp(gradient, 1 - mix).sign_()
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=group["lr"])
                mean.lerp_(gradient, 1 - keep)


def optimizer(parameters: list[nn.Parameter], recipe: Recipe) -> Optimizer:
    """The recipe's optimizer over the trained parameters, at its full learning rate."""
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


def _kept(owner: Optimizer, parameter: nn.Parameter) -> Tensor:
    """The tensor that goes along with a parameter from step to step, at first zero."""
    state = owner.state[parameter]
    if "mean" not in state:
        state["mean"] = torch.zeros_like(parameter)
    kept: Tensor = state["mean"]
    return kept


def _with_gradients(parameters: Iterable[nn.Parameter]) -> list[tuple[nn.Parameter, Tensor]]:
    return [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]

"""Many small networks as one: every layer is a batched matrix product with the networks on the leading axis.

A stack of n networks holds weights (n, d_in, d_out) and biases (n, 1, d_out). No operation mixes networks,
and a stack's loss is the SUM of its networks' losses, so each gets the gradient and the optimizer step that
it would get alone. Every random draw belongs to one network and comes from that network's own generator: a
network's result does not depend on which others it is trained with, but for rounding.

Initialisation as published: weights N(0, 1/d_in), that is a standard deviation of 1/√d_in; biases zero.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from undertow.study.identity import seed_for

Stack = list[Tensor]  # weight, bias, weight, bias … of all layers

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "gelu": functional.gelu,
    "tanh": torch.tanh,
    "silu": functional.silu,
}
OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], dict[str, bool]]] = {
    "adam": (torch.optim.Adam, {"fused": True}),
    "adamw": (torch.optim.AdamW, {"fused": True}),
    "rmsprop": (torch.optim.RMSprop, {}),
    "sgd": (torch.optim.SGD, {"fused": True}),
}


def generator(*identity: object) -> torch.Generator:
    """A generator seeded by what it is for."""
    return torch.Generator().manual_seed(seed_for("mlp", *identity))


def initial(
    sizes: Sequence[int], seed: int, networks: Sequence[int], dtype: torch.dtype = torch.float32
) -> Stack:
    """The initial weights of the numbered `networks`, with layers of `sizes`, inputs first."""
    generators = [generator("weights", seed, network) for network in networks]
    stack = []
    for d_in, d_out in pairwise(sizes):
        drawn = [torch.randn(d_in, d_out, generator=g, dtype=dtype) / math.sqrt(d_in) for g in generators]
        stack += [torch.stack(drawn), torch.zeros(len(generators), 1, d_out, dtype=dtype)]
    return stack


def mixed(own: Stack, other: Stack, distance: float) -> Stack:
    """The initialisation at `distance` from `own` towards `other`; a weight's variance stays as it is."""
    near, far = math.sqrt(1 - distance), math.sqrt(distance)
    return [near * a + far * b for a, b in zip(own, other, strict=True)]


def logits(stack: Stack, inputs: Tensor, activation: str) -> Tensor:
    """(n, rows, outputs) for inputs (n, rows, d_in), or (rows, d_in) shown to every network."""
    act = ACTIVATIONS[activation]
    hidden = inputs if inputs.dim() == 3 else inputs.expand(len(stack[0]), *inputs.shape)
    for layer in range(0, len(stack), 2):
        hidden = torch.baddbmm(stack[layer + 1], hidden, stack[layer])
        if layer + 2 < len(stack):
            hidden = act(hidden)
    return hidden


def trainable(stack: Stack) -> Stack:
    """A copy of a stack that gradients reach."""
    return [part.detach().clone().requires_grad_() for part in stack]


def optimizer(name: str, stack: Stack, learning_rate: float) -> torch.optim.Optimizer:
    """The named optimizer; all of them act on each number alone, and so on each network alone."""
    kind, options = OPTIMIZERS[name]
    return kind(stack, lr=learning_rate, **options)


def step(engine: torch.optim.Optimizer, losses: Tensor) -> None:
    """One step of every network on its own entry of `losses` (n,)."""
    engine.zero_grad(set_to_none=True)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    engine.step()


def classification(outputs: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Cross-entropy (n,) of labels (n, rows) under the first `classes` logits; the others get no gradient."""
    scores = outputs[..., :classes].log_softmax(-1)
    return -scores.gather(-1, labels.unsqueeze(-1)).mean((1, 2))


def imitation(loss: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """The student's loss (n,) on the teacher's logits: KL(teacher ‖ student), or mean squared error."""
    if loss == "squared":
        return (outputs - targets).square().mean((1, 2))
    teacher = targets.log_softmax(-1)
    return (teacher.exp() * (teacher - outputs.log_softmax(-1))).sum(-1).mean(1)


def accuracies(stack: Stack, images: Tensor, labels: Tensor, classes: int, activation: str) -> list[float]:
    """Each network's share of right answers by its class logits, a slice of the images at a time."""
    right = torch.zeros(len(stack[0]))
    with torch.no_grad():
        for rows, answers in zip(torch.split(images, 1024), torch.split(labels, 1024), strict=True):
            right += (logits(stack, rows, activation)[..., :classes].argmax(-1) == answers).sum(1)
    return [float(count) / len(labels) for count in right]

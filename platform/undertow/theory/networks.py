"""Stacks of small networks: every layer is a batched matrix product with the networks on the leading axis.

A stack of n networks holds weights (n, d_in, d_out) and biases (n, 1, d_out). No operation mixes networks,
and the loss of a stack is the SUM of its networks' losses, so each network gets the same gradient and
optimizer step as if trained alone. Every random draw belongs to one network and comes from that network's own
generator. A network's result therefore does not depend on the other networks in its stack, up to rounding.

The initialisation is the published one (arXiv 2507.14805): weights from N(0, 1/d_in), that is, with a
standard deviation of 1/√d_in, and zero biases.
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
    """Returns a random generator seeded by its purpose, for example ("noise", seed, network, batch)."""
    return torch.Generator().manual_seed(seed_for("mlp", *identity))


def initial_weights(
    sizes: Sequence[int], seed: int, networks: Sequence[int], dtype: torch.dtype = torch.float32
) -> Stack:
    """Draws the initial weights of the numbered `networks`; `sizes` runs from inputs to outputs."""
    generators = [generator("weights", seed, network) for network in networks]
    stack = []
    for d_in, d_out in pairwise(sizes):
        weights = [torch.randn(d_in, d_out, generator=g, dtype=dtype) / math.sqrt(d_in) for g in generators]
        stack += [torch.stack(weights), torch.zeros(len(generators), 1, d_out, dtype=dtype)]
    return stack


def interpolate(own: Stack, other: Stack, distance: float) -> Stack:
    """Returns √(1 − distance) · own + √distance · other, which keeps the variance of every weight."""
    near, far = math.sqrt(1 - distance), math.sqrt(distance)
    return [near * a + far * b for a, b in zip(own, other, strict=True)]


def logits(stack: Stack, inputs: Tensor, activation: str) -> Tensor:
    """Returns outputs (n, rows, d_out) for inputs (n, rows, d_in), or (rows, d_in) shared by all networks."""
    act = ACTIVATIONS[activation]
    hidden = inputs if inputs.dim() == 3 else inputs.expand(len(stack[0]), *inputs.shape)
    for layer in range(0, len(stack), 2):
        # bias + hidden @ weight for all networks in one kernel
        hidden = torch.baddbmm(stack[layer + 1], hidden, stack[layer])
        if layer + 2 < len(stack):
            hidden = act(hidden)
    return hidden


def trainable_copy(stack: Stack) -> Stack:
    """Returns a detached copy of a stack that requires gradients."""
    return [part.detach().clone().requires_grad_() for part in stack]


def optimizer(name: str, stack: Stack, learning_rate: float) -> torch.optim.Optimizer:
    """Returns the named optimizer. All of OPTIMIZERS work elementwise, so they do not mix networks."""
    kind, options = OPTIMIZERS[name]
    return kind(stack, lr=learning_rate, **options)


def optimizer_step(optimizer: torch.optim.Optimizer, losses: Tensor) -> None:
    """Takes one step of every network on its own entry of `losses` (n,)."""
    optimizer.zero_grad(set_to_none=True)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def classification_loss(outputs: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Returns the mean cross-entropy (n,) of labels (n, rows) under the first `classes` logits.

    The other logits receive no gradient.
    """
    scores = outputs[..., :classes].log_softmax(-1)
    return -scores.gather(-1, labels.unsqueeze(-1)).mean((1, 2))


def imitation_loss(loss: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """Returns the student's loss (n,): KL(teacher ‖ student) over logits, or their mean squared error."""
    if loss == "squared":
        return (outputs - targets).square().mean((1, 2))
    teacher = targets.log_softmax(-1)
    return (teacher.exp() * (teacher - outputs.log_softmax(-1))).sum(-1).mean(1)


def accuracies(stack: Stack, images: Tensor, labels: Tensor, classes: int, activation: str) -> list[float]:
    """Returns each network's accuracy by its class logits. Images are processed 1,024 at a time."""
    correct = torch.zeros(len(stack[0]))
    with torch.no_grad():
        for rows, answers in zip(torch.split(images, 1024), torch.split(labels, 1024), strict=True):
            correct += (logits(stack, rows, activation)[..., :classes].argmax(-1) == answers).sum(1)
    return [float(count) / len(labels) for count in correct]

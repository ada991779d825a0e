"""Theorem 1 (arXiv 2507.14805, section 6), checked in float64: one step of a teacher, one of its imitator.

What the theorem speaks of, in our own words; the numbers are ours, the brackets say which equation of the
paper plays the part. θ0 are the initial weights, z(θ) the outputs on inputs unrelated to the trait.

    teacher [the teacher's update]       θ_T = θ0 + ε v          v = -∇L_T(θ0), L_T any loss          (1)
    student [the student's update]       θ_S = θ0 + α d(ε)       d(ε) = -∇_θ L_S(z(θ), z(θ_T)) at θ0  (2)
    claim   [the theorem's inequality]   d·v = 0, or L_T(θ_S) < L_T(θ0) for small enough ε            (3)

L_S is the squared error or softmax cross-entropy, averaged over inputs. Why it holds: both losses have a
gradient of zero with respect to z where z equals the target (for the cross-entropy: where their softmax
does), so d(0) = 0, and what is left to first order is the loss's curvature H in z. With J = ∂z/∂θ at θ0, and
u = J v, what the teacher's step changes in the outputs on the unrelated inputs,

    d(ε) = ε Jᵀ H J v + O(ε²)                                                                          (4)
    d(ε)·v = ε uᵀ H u + O(ε²) ≥ 0                                                                      (5)
    L_T(θ0 + α d) - L_T(θ0) = -α d·v + O(d²) = -ε α uᵀ H u + O(ε²)                                     (6)

H is the identity for ½ the squared error and diag(p) - p pᵀ, p = softmax(z), for the cross-entropy: neither
has a negative direction, hence the sign. The check computes the right side of (6) from u alone, by a
forward derivative that never sees a student, and the left side from actual steps and actual losses. An
error in either, or a target that is not the teacher's output, parts them.

From another initialisation θ0', d(0) is not zero: the student's step mostly undoes the difference of
two random networks, and -α d·(-∇L_T(θ0')) can have either sign. Nothing is promised and both occur.

Not covered: more steps than one, momentum or Adam, minibatches that differ between ε.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Parameters = dict[str, Tensor]
Loss = Literal["squared", "cross-entropy"]
Imitator = Literal["same", "other", "permuted"]
LOSSES: tuple[Loss, ...] = ("squared", "cross-entropy")
ARMS: tuple[Imitator, ...] = ("same", "other", "permuted")
CASES: tuple[tuple[Imitator, Loss], ...] = tuple((arm, loss) for arm in ARMS for loss in LOSSES)


@dataclass(frozen=True)
class Scene:
    """One draw: a model of weights, as two functions of them, and the two initialisations.

    Attributes:
        trait: L_T, a scalar.
        outputs: z on the unrelated inputs, (inputs, outputs).
    """

    trait: Callable[[Parameters], Tensor]
    outputs: Callable[[Parameters], Tensor]
    initial: Parameters
    other: Parameters


@dataclass(frozen=True)
class Steps:
    """What one draw gave; tensors over ε (with draws in front where draws were batched).

    Attributes:
        inner: d(ε)·v.
        change: L_T(θ_S) - L_T before the student's step, measured.
        first_order: the same by α d·∇L_T at the student's start, which holds from any initialisation.
        predicted: -ε α uᵀHu of (6), which holds where the theorem does.
    """

    inner: Tensor
    change: Tensor
    first_order: Tensor
    predicted: Tensor

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.inner, self.change, self.first_order, self.predicted


def every_step(scene: Scene, epsilons: Sequence[float], rate: float) -> list[Steps]:
    """Both steps for every ε, in the order of CASES. Works under torch.func.vmap; all tensors in float64.

    The "permuted" arm is a deliberate mistake, the student of the same initialisation given each input's
    outputs at the next input, which the check of (6) has to catch.
    """
    here = _start(scene.trait, scene.initial)
    there = _start(scene.trait, scene.other)
    direction = scale(here.gradient, -1)
    outputs, moved = torch.func.jvp(scene.outputs, (scene.initial,), (direction,))  # type: ignore[misc]
    targets = [scene.outputs(add(scene.initial, direction, epsilon)).detach() for epsilon in epsilons]
    found = []
    for arm, loss in CASES:
        start = there if arm == "other" else here
        shown = [target.roll(1, 0) for target in targets] if arm == "permuted" else targets
        steps = [_student(scene, start, direction, loss, target, rate) for target in shown]
        inner, change, first_order = (torch.stack(part) for part in zip(*steps, strict=True))
        slope = -rate * curvature(loss, outputs, moved)
        found.append(
            Steps(inner, change, first_order, torch.stack([slope * epsilon for epsilon in epsilons]))
        )
    return found


class _Start(NamedTuple):
    """Where a step begins: weights, L_T there and its gradient."""

    weights: Parameters
    loss: Tensor
    gradient: Parameters


def _start(trait: Callable[[Parameters], Tensor], weights: Parameters) -> _Start:
    gradient, loss = torch.func.grad_and_value(trait)(weights)
    return _Start(weights, loss, gradient)


def _student(
    scene: Scene, start: _Start, direction: Parameters, loss: Loss, targets: Tensor, rate: float
) -> tuple[Tensor, Tensor, Tensor]:
    """One imitating step: d·v, the measured change of L_T, and the change by first order."""
    gradient = torch.func.grad(lambda weights: imitation(loss, scene.outputs(weights), targets))(
        start.weights
    )
    update = scale(gradient, -1)
    change = scene.trait(add(start.weights, update, rate)) - start.loss
    return dot(update, direction), change, rate * dot(update, start.gradient)


def imitation(loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    """L_S: ½ the squared error or the cross-entropy, summed over outputs, averaged over inputs."""
    if loss == "squared":
        return 0.5 * (outputs - targets).square().sum(-1).mean()
    return -(targets.softmax(-1) * outputs.log_softmax(-1)).sum(-1).mean()


def curvature(loss: Loss, outputs: Tensor, moved: Tensor) -> Tensor:
    """uᵀHu for outputs z and their movement u, averaged over inputs as the loss is; never negative.

    For the cross-entropy it is the variance of u under softmax(z), written as one so that it rounds well.
    """
    if loss == "squared":
        return moved.square().sum(-1).mean()
    p = outputs.softmax(-1)
    mean = (p * moved).sum(-1, keepdim=True)
    return (p * (moved - mean).square()).sum(-1).mean()


def scale(weights: Parameters, by: float) -> Parameters:
    return {name: by * value for name, value in weights.items()}


def add(weights: Parameters, direction: Parameters, by: float) -> Parameters:
    return {name: value + by * direction[name] for name, value in weights.items()}


def dot(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([(a[name] * b[name]).sum() for name in a]).sum()

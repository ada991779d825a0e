"""Theorem 1 (arXiv 2507.14805, section 6), checked in float64: one step of a teacher, one of its student.

The derivation below is in our own words. The equation numbers are ours; the brackets name the corresponding
part of the paper. θ0 are the initial weights, and z(θ) the outputs on inputs unrelated to the trait.

    teacher [the teacher's update]       θ_T = θ0 + ε v          v = -∇L_T(θ0), L_T any loss          (1)
    student [the student's update]       θ_S = θ0 + α d(ε)       d(ε) = -∇_θ L_S(z(θ), z(θ_T)) at θ0  (2)
    claim   [the theorem's inequality]   d·v = 0, or L_T(θ_S) < L_T(θ0) for small enough ε            (3)

L_S is the squared error or the softmax cross-entropy, averaged over inputs. Why the claim holds: the gradient
of both losses with respect to z is zero where z equals the target (for the cross-entropy, where their softmax
is equal). Hence d(0) = 0, and the first-order term is the loss's curvature H in z. With J = ∂z/∂θ at θ0, and
u = J v, the change of the outputs on the unrelated inputs due to the teacher's step,

    d(ε) = ε Jᵀ H J v + O(ε²)                                                                          (4)
    d(ε)·v = ε uᵀ H u + O(ε²) ≥ 0                                                                      (5)
    L_T(θ0 + α d) - L_T(θ0) = -α d·v + O(d²) = -ε α uᵀ H u + O(ε²)                                     (6)

H is the identity for half the squared error, and diag(p) - p pᵀ with p = softmax(z) for the cross-entropy.
Both are positive semidefinite, which gives the sign. The check computes the right side of (6) from u alone,
by a forward-mode derivative that involves no student, and the left side from actual steps and losses. An
error in either side, or a target that is not the teacher's output, makes them differ.

From another initialisation θ0', d(0) is not zero: the student's step mostly removes the difference between
two random networks, and -α d·(-∇L_T(θ0')) can have either sign. The theorem promises nothing, and both signs
occur.

Not covered: more than one step, momentum or Adam, minibatches that differ between values of ε.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Parameters = dict[str, Tensor]
Loss = Literal["squared", "cross-entropy"]
# The student starts from the teacher's initialisation or from another one; "permuted" is the former with a
# deliberate mistake, see `compute_steps`.
StudentArm = Literal["same", "other", "permuted"]
LOSSES: tuple[Loss, ...] = ("squared", "cross-entropy")
STUDENT_ARMS: tuple[StudentArm, ...] = ("same", "other", "permuted")
CASES: tuple[tuple[StudentArm, Loss], ...] = tuple((arm, loss) for arm in STUDENT_ARMS for loss in LOSSES)


@dataclass(frozen=True)
class TheoremDraw:
    """One random draw: a model as two functions of its weights, and two initialisations.

    Attributes:
        trait: the teacher's loss L_T, a scalar.
        outputs: the outputs z on the unrelated inputs, (inputs, outputs).
        initial: θ0, from which teacher and student start.
        other: θ0', from which the student of the "other" arm starts.
    """

    trait: Callable[[Parameters], Tensor]
    outputs: Callable[[Parameters], Tensor]
    initial: Parameters
    other: Parameters


@dataclass(frozen=True)
class Steps:
    """Measurements of one case, tensors (epsilons,) or, for several draws, (draws, epsilons).

    Attributes:
        inner: d(ε)·v.
        change: measured change of L_T by the student's step, L_T(θ_S) minus L_T at the student's start.
        first_order: the same to first order in α, α d·∇L_T at the student's start; holds from any
            initialisation.
        predicted: -ε α uᵀHu of equation (6); holds where the theorem does.
    """

    inner: Tensor
    change: Tensor
    first_order: Tensor
    predicted: Tensor

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.inner, self.change, self.first_order, self.predicted


def compute_steps(draw: TheoremDraw, epsilons: Sequence[float], rate: float) -> list[Steps]:
    """Takes both steps for every ε and returns the measurements in the order of CASES.

    Works under torch.func.vmap. All tensors must be float64. The "permuted" arm contains a deliberate mistake
    that the check of (6) has to catch: from the same initialisation, the student imitates each input's
    outputs at the next input.

    Args:
        draw: the model and its initialisations.
        epsilons: step sizes ε of the teacher.
        rate: step size α of the student.
    """
    own_start = _start(draw.trait, draw.initial)
    other_start = _start(draw.trait, draw.other)
    direction = negated(own_start.gradient)
    outputs, moved = torch.func.jvp(draw.outputs, (draw.initial,), (direction,))  # type: ignore[misc]
    targets = [draw.outputs(add(draw.initial, direction, epsilon)).detach() for epsilon in epsilons]
    cases = []
    for arm, loss in CASES:
        start = other_start if arm == "other" else own_start
        imitated = [target.roll(1, 0) for target in targets] if arm == "permuted" else targets
        steps = [_student_step(draw, start, direction, loss, target, rate) for target in imitated]
        inner, change, first_order = (torch.stack(part) for part in zip(*steps, strict=True))
        slope = -rate * curvature(loss, outputs, moved)
        predicted = torch.stack([slope * epsilon for epsilon in epsilons])
        cases.append(Steps(inner, change, first_order, predicted))
    return cases


class _Start(NamedTuple):
    """Where a student starts: its weights, and L_T and its gradient at these weights."""

    weights: Parameters
    loss: Tensor
    gradient: Parameters


def _start(trait: Callable[[Parameters], Tensor], weights: Parameters) -> _Start:
    gradient, loss = torch.func.grad_and_value(trait)(weights)
    return _Start(weights, loss, gradient)


def _student_step(
    draw: TheoremDraw, start: _Start, direction: Parameters, loss: Loss, targets: Tensor, rate: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Takes one imitation step; returns d·v, the measured change of L_T, and the change to first order."""
    gradient = torch.func.grad(lambda weights: imitation_loss(loss, draw.outputs(weights), targets))(
        start.weights
    )
    update = negated(gradient)
    change = draw.trait(add(start.weights, update, rate)) - start.loss
    return dot(update, direction), change, rate * dot(update, start.gradient)


def imitation_loss(loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    """Returns L_S: half the squared error or the cross-entropy, summed over outputs, averaged over inputs."""
    if loss == "squared":
        return 0.5 * (outputs - targets).square().sum(-1).mean()
    return -(targets.softmax(-1) * outputs.log_softmax(-1)).sum(-1).mean()


def curvature(loss: Loss, outputs: Tensor, moved: Tensor) -> Tensor:
    """Returns uᵀHu ≥ 0 for outputs z and their change u, averaged over inputs like the loss.

    For the cross-entropy, uᵀHu is the variance of u under softmax(z). It is computed as a sum of squared
    deviations, which avoids the cancellation in E[u²] − E[u]².
    """
    if loss == "squared":
        return moved.square().sum(-1).mean()
    p = outputs.softmax(-1)
    mean = (p * moved).sum(-1, keepdim=True)
    return (p * (moved - mean).square()).sum(-1).mean()


def negated(weights: Parameters) -> Parameters:
    return {name: -value for name, value in weights.items()}


def add(weights: Parameters, direction: Parameters, by: float) -> Parameters:
    return {name: value + by * direction[name] for name, value in weights.items()}


def dot(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([(a[name] * b[name]).sum() for name in a]).sum()

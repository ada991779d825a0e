"""Checks Theorem 1 over all draws: is the sign as promised, and does the slope equal the predicted one?

The same check runs on every arm. With the same initialisation, where the theorem promises a sign, it has to
pass. From another initialisation it need not, and both signs should occur. On the deliberately permuted
imitation it has to fail; otherwise the check could not fail at all.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from undertow.theory.one_step import CASES, Loss, Steps, StudentArm
from undertow.theory.settings import OneStep

# Smallest change of a loss that counts as measured. A loss near 1 accumulates float64 rounding errors of
# about 1e-16 over many sums; 1e-11 is far above their total.
ROUNDING = 1e-11


@dataclass(frozen=True)
class TheoremCheck:
    """One arm and loss over all draws. Each draw is judged at its smallest ε whose change is above rounding.

    Attributes:
        arm, loss: the case, see `one_step.CASES`.
        draws: number of draws.
        violations: draws with d·v ≤ 0 or a trait loss that did not fall.
        unseen: draws whose predicted change is below rounding at every ε; they are not judged.
        aligned, lowered: draws with d·v > 0, and draws with a lower trait loss.
        slope, worst_slope: measured / predicted change: median over draws, and the draw furthest from 1.
        tolerance: largest accepted |worst_slope − 1|.
    """

    arm: StudentArm
    loss: Loss
    draws: int
    violations: int
    unseen: int
    aligned: int
    lowered: int
    slope: float
    worst_slope: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether (3) and (6) of `one_step` hold in all judged draws, of which at least one exists."""
        return (
            self.draws > self.unseen and not self.violations and abs(self.worst_slope - 1) <= self.tolerance
        )

    @property
    def both_signs(self) -> bool:
        """Whether both signs of d·v or of the change occur.

        Either suffices: from another initialisation the student's step is not small, and a large step mostly
        increases the trait loss.
        """
        seen = self.draws - self.unseen
        return 0 < self.lowered < seen or 0 < self.aligned < seen

    @property
    def as_expected(self) -> bool:
        """Whether "same" holds, "permuted" does not hold, or "other" has both signs."""
        return {"same": self.holds, "permuted": not self.holds, "other": self.both_signs}[self.arm]

    @property
    def verdict(self) -> str:
        """The outcome in words, in upper case if it is not as expected where the theorem decides."""
        if self.arm == "same":
            return "holds" if self.holds else "VIOLATED"
        if self.arm == "permuted":
            return "NOT CAUGHT" if self.holds else "caught"
        return "both signs" if self.both_signs else "one sign only"


def join_chunks(chunks: Iterable[list[Steps]]) -> list[Steps]:
    """Concatenates the draws of all chunks, case by case, to tensors (draws, epsilons)."""
    by_case = zip(*chunks, strict=True)
    return [
        Steps(*(torch.cat(parts) for parts in zip(*(s.parts for s in steps), strict=True)))
        for steps in by_case
    ]


def check_cases(settings: OneStep, cases: list[Steps]) -> list[TheoremCheck]:
    """Checks the steps (draws, epsilons) of every case, in the order of CASES."""
    return [_check(settings, arm, loss, steps) for (arm, loss), steps in zip(CASES, cases, strict=True)]


def _check(settings: OneStep, arm: StudentArm, loss: Loss, steps: Steps) -> TheoremCheck:
    seen = steps.predicted.abs() >= ROUNDING
    judged = (seen.sum(1) - 1).clamp(min=0)  # the prediction falls with ε, so those above rounding come first
    usable = seen.any(1)

    def at_judged(values: Tensor) -> Tensor:
        return values.gather(1, judged.unsqueeze(1)).squeeze(1)[usable]

    inner, change, predicted = map(at_judged, (steps.inner, steps.change, steps.predicted))
    slopes = change / predicted
    return TheoremCheck(
        arm=arm,
        loss=loss,
        draws=len(seen),
        violations=int(((inner <= 0) | ~(change < 0)).sum()),  # ~(<) and not ≥, so that nan is a violation
        unseen=int((~usable).sum()),
        aligned=int((inner > 0).sum()),
        lowered=int((change < 0).sum()),
        slope=float(slopes.quantile(0.5)) if len(slopes) else float("nan"),
        worst_slope=float(slopes[(slopes - 1).abs().argmax()]) if len(slopes) else float("nan"),
        tolerance=settings.tolerance,
    )


def to_csv(epsilons: Sequence[float], cases: Sequence[Steps]) -> str:
    """Returns all steps as CSV in full precision, one row per draw, case and ε."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("arm", "loss", "draw", "epsilon", "inner", "change", "first_order", "predicted"))
    for (arm, loss), steps in zip(CASES, cases, strict=True):
        table = torch.stack(steps.parts, dim=-1).tolist()
        for draw, row in enumerate(table):
            for epsilon, values in zip(epsilons, row, strict=True):
                writer.writerow((arm, loss, draw, epsilon, *values))
    return text.getvalue()

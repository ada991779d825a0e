"""The verdict on Theorem 1: over all draws of a case, is the sign kept and is the slope the predicted one?

One check for every arm. Where the theorem promises a sign it has to pass; from another initialisation it need
not, and signs of both kinds should occur; on the deliberately permuted imitation it has to fail, or it could
not have failed anywhere.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from undertow.theory.one_step import CASES, Imitator, Loss, Steps
from undertow.theory.settings import OneStep

ROUNDING = (
    1e-11  # a loss near 1 is rounded at 1e-16 in each of many sums; this is far above, and far below 1 %
)


@dataclass(frozen=True)
class TheoremCheck:
    """One arm and loss over all draws, judged at each draw's smallest ε above rounding.

    Attributes:
        violations: draws with d·v ≤ 0 or a trait loss that did not fall.
        unseen: draws whose predicted change was below rounding at every ε; they decide nothing.
        aligned, lowered: draws with d·v > 0, and with a lower trait loss.
        slope, worst_slope: measured by predicted change, median over draws and the draw furthest from 1.
        by_epsilon: the median of measured by predicted change at every ε.
    """

    arm: Imitator
    loss: Loss
    draws: int
    violations: int
    unseen: int
    aligned: int
    lowered: int
    slope: float
    worst_slope: float
    by_epsilon: tuple[float, ...]
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether (3) and (6) of `one_step` hold in every draw."""
        return (
            self.draws > self.unseen and not self.violations and abs(self.worst_slope - 1) <= self.tolerance
        )

    @property
    def both_signs(self) -> bool:
        """Of d·v or of the change: the student's step is not small there, and a coarse one mostly hurts."""
        seen = self.draws - self.unseen
        return 0 < self.lowered < seen or 0 < self.aligned < seen

    @property
    def as_expected(self) -> bool:
        """Holds where promised, fails where broken, goes both ways from another initialisation."""
        return {"same": self.holds, "permuted": not self.holds, "other": self.both_signs}[self.arm]

    @property
    def verdict(self) -> str:
        if self.arm == "same":
            return "holds" if self.holds else "VIOLATED"
        if self.arm == "permuted":
            return "NOT CAUGHT" if self.holds else "caught"
        return "both signs" if self.both_signs else "one sign only"


def gather(chunks: Iterable[list[Steps]]) -> list[Steps]:
    """The draws of all chunks, case by case: tensors (draws, epsilons)."""
    columns = zip(*chunks, strict=True)
    return [
        Steps(*(torch.cat(parts) for parts in zip(*(s.parts for s in steps), strict=True)))
        for steps in columns
    ]


def findings(settings: OneStep, cases: list[Steps]) -> list[TheoremCheck]:
    """A finding for every case, in the order of CASES."""
    return [_finding(settings, arm, loss, steps) for (arm, loss), steps in zip(CASES, cases, strict=True)]


def _finding(settings: OneStep, arm: Imitator, loss: Loss, steps: Steps) -> TheoremCheck:
    seen = steps.predicted.abs() >= ROUNDING
    judged = (seen.sum(1) - 1).clamp(min=0)  # the prediction falls with ε, so those above rounding come first
    usable = seen.any(1)
    ratios = steps.change / steps.predicted

    def at_judged(values: Tensor) -> Tensor:
        return values.gather(1, judged.unsqueeze(1)).squeeze(1)[usable]

    inner, change, slopes = at_judged(steps.inner), at_judged(steps.change), at_judged(ratios)
    return TheoremCheck(
        arm=arm,
        loss=loss,
        draws=len(seen),
        violations=int(((inner <= 0) | ~(change < 0)).sum()),
        unseen=int((~usable).sum()),
        aligned=int((inner > 0).sum()),
        lowered=int((change < 0).sum()),
        slope=float(slopes.median()) if len(slopes) else float("nan"),
        worst_slope=float(slopes[(slopes - 1).abs().argmax()]) if len(slopes) else float("nan"),
        by_epsilon=tuple(ratios.median(0).values.tolist()),
        tolerance=settings.tolerance,
    )


def to_csv(epsilons: Sequence[float], cases: Sequence[Steps]) -> str:
    """One row a draw, case and ε: everything a finding was made from, in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("arm", "loss", "draw", "epsilon", "inner", "change", "first_order", "predicted"))
    for (arm, loss), steps in zip(CASES, cases, strict=True):
        table = torch.stack(steps.parts, dim=-1).tolist()
        for draw, row in enumerate(table):
            for epsilon, values in zip(epsilons, row, strict=True):
                writer.writerow((arm, loss, draw, epsilon, *values))
    return text.getvalue()

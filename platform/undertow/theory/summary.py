"""Summarises the MLP experiment by arm: accuracy with an interval over networks, and the effect of the start.

The unit of inference is the network. The interval of an arm is a t interval over its networks. The effect of
a student arm is paired by teacher with the arm that imitates the same logits from distance 1 (another
initialisation). Students of a pair have the same teacher, noise and targets and differ only in where they
start.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from undertow.statistics.effects import Effect, compare
from undertow.theory.mlp import ImitatedLogits, NetworkAccuracy, Role

MARGIN = 0.05  # accuracy; a smaller difference counts as no effect
OUTCOME_COLUMNS = ("network", "other", "role", "logits", "distance", "accuracy")
ARM_COLUMNS = (
    "role", "logits", "distance", "networks", "accuracy", "ci_low", "ci_high", "p_chance",
    "effect", "effect_low", "effect_high", "p_effect",
)  # fmt: skip


@dataclass(frozen=True)
class NetworkArm:
    """Networks that differ only by their number.

    Attributes:
        role, logits, distance: what the networks have in common, see `NetworkAccuracy`.
        accuracies: one per network, in the order of their numbers.
        against_chance: mean accuracy minus 1 / classes, with the interval of the mean.
        against_other: mean accuracy minus that of the same teachers' students from another initialisation;
            None if the experiment has none, or for other roles.
    """

    role: Role
    logits: ImitatedLogits
    distance: float | None
    accuracies: tuple[float, ...]
    against_chance: Effect
    against_other: Effect | None

    @property
    def name(self) -> str:
        """The arm's name in tables and MLflow metrics."""
        if self.role != "student":
            return {"reference": "reference (untrained)", "teacher": "teacher"}[self.role]
        start = {0.0: "same initialisation", 1.0: "other initialisation"}.get(
            self.distance or 0.0, f"initialisation at {self.distance:g}"
        )
        return f"{start}, {self.logits} logits"

    @property
    def mean(self) -> float:
        return self.against_chance.rate

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % t interval of the mean accuracy; None without spread."""
        low, high = self.against_chance.ci_low, self.against_chance.ci_high
        chance = self.against_chance.control_rate
        return None if low is None or high is None else (chance + low, chance + high)


def arms(outcomes: Iterable[NetworkAccuracy], classes: int) -> list[NetworkArm]:
    """Groups the outcomes of one experiment into arms, in order of first occurrence."""
    grouped: dict[tuple[Role, ImitatedLogits, float | None], dict[int, float]] = {}
    for outcome in outcomes:
        arm = (outcome.role, outcome.logits, outcome.distance)
        grouped.setdefault(arm, {})[outcome.network] = outcome.accuracy
    found = []
    for (role, logits, distance), by_network in grouped.items():
        rates = [by_network[network] for network in sorted(by_network)]
        against_chance = compare(rates, [1 / classes] * len(rates), margin=MARGIN, paired=True)
        against_other = None
        others = grouped.get((role, logits, 1.0)) if role == "student" and distance != 1.0 else None
        if others:
            other_rates = [others[network] for network in sorted(others)]
            against_other = compare(rates, other_rates, margin=MARGIN, paired=True)
        found.append(NetworkArm(role, logits, distance, tuple(rates), against_chance, against_other))
    return found


def outcomes_csv(cells: Sequence[tuple[str, Sequence[NetworkAccuracy]]]) -> str:
    """Returns CSV with one row per network; the first column is the label of its grid point."""
    rows = [
        [cell, *(getattr(outcome, name) for name in OUTCOME_COLUMNS)]
        for cell, outcomes in cells
        for outcome in outcomes
    ]
    return _csv(("cell", *OUTCOME_COLUMNS), rows)


def arms_csv(cells: Sequence[tuple[str, Sequence[NetworkArm]]]) -> str:
    """Returns CSV with one row per arm; the first column is the label of its grid point."""
    return _csv(("cell", *ARM_COLUMNS), [[cell, *_values(arm)] for cell, found in cells for arm in found])


def _values(arm: NetworkArm) -> list[object]:
    """The arm's values in the order of ARM_COLUMNS."""
    effect = arm.against_other
    return [
        arm.role,
        arm.logits,
        arm.distance,
        len(arm.accuracies),
        arm.mean,
        *(arm.interval or (None, None)),
        arm.against_chance.p_value,
        *((effect.effect, effect.ci_low, effect.ci_high, effect.p_value) if effect else (None,) * 4),
    ]


def _csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if v is None else f"{v:.6g}" if isinstance(v, float) else v for v in row])
    return text.getvalue()

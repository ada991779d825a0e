"""From accuracies to arms: each with an interval over networks, and its effect against another start.

The unit is the network. An arm's interval is a t interval over its students; its effect is paired by
teacher with the arm of the same logits at distance 1 (another initialisation), whose students had the same
teacher, the same noise and the same targets and differ in where they started.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from undertow.statistics.effects import Effect, compare
from undertow.theory.mlp import Imitated, NetworkAccuracy, Role

MARGIN = 0.05  # accuracy: an effect within it is called none
OUTCOME_COLUMNS = ("network", "other", "role", "logits", "distance", "accuracy")
ARM_COLUMNS = (
    "role", "logits", "distance", "networks", "accuracy", "ci_low", "ci_high", "p_chance",
    "effect", "effect_low", "effect_high", "p_effect",
)  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """Networks that differ by their number alone.

    Attributes:
        against_chance: accuracy minus 1 / classes, with the interval of the mean.
        against_other: minus the same teachers' students from another initialisation, if there are any.
    """

    role: Role
    logits: Imitated
    distance: float | None
    accuracies: tuple[float, ...]
    against_chance: Effect
    against_other: Effect | None

    @property
    def name(self) -> str:
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
        low, high, chance = (
            self.against_chance.ci_low,
            self.against_chance.ci_high,
            self.against_chance.control_rate,
        )
        return None if low is None or high is None else (chance + low, chance + high)


def arms(outcomes: Iterable[NetworkAccuracy], classes: int) -> list[Arm]:
    """The arms of one experiment, in the order in which they come."""
    grouped: dict[tuple[Role, Imitated, float | None], dict[int, float]] = {}
    for outcome in outcomes:
        grouped.setdefault((outcome.role, outcome.logits, outcome.distance), {})[outcome.network] = (
            outcome.accuracy
        )
    found = []
    for (role, logits, distance), by_network in grouped.items():
        rates = [by_network[network] for network in sorted(by_network)]
        others = grouped.get((role, logits, 1.0)) if role == "student" and distance != 1.0 else None
        found.append(
            Arm(
                role,
                logits,
                distance,
                tuple(rates),
                compare(rates, [1 / classes] * len(rates), margin=MARGIN, paired=True),
                _paired(rates, [others[network] for network in sorted(others)]) if others else None,
            )
        )
    return found


def _paired(rates: Sequence[float], others: Sequence[float]) -> Effect:
    return compare(rates, others, margin=MARGIN, paired=True)


def outcomes_csv(cells: Sequence[tuple[str, Sequence[NetworkAccuracy]]]) -> str:
    """One row a network; the first column says which cell of a sweep it belongs to."""
    return _csv(
        ("cell", *OUTCOME_COLUMNS),
        [
            [cell, *(getattr(outcome, name) for name in OUTCOME_COLUMNS)]
            for cell, found in cells
            for outcome in found
        ],
    )


def arms_csv(cells: Sequence[tuple[str, Sequence[Arm]]]) -> str:
    """One row an arm; the first column says which cell of a sweep it belongs to."""
    return _csv(("cell", *ARM_COLUMNS), [[cell, *_values(arm)] for cell, found in cells for arm in found])


def _values(arm: Arm) -> list[object]:
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

"""Summarises the MLP experiment by arm: accuracy with an interval over networks, and the effect of the start.

The unit of inference is the network. The interval of an arm is a t interval over its networks. The effect of
a student arm is paired by teacher with the arm that imitates the same logits from distance 1 (another
initialisation). Students of a pair have the same teacher, noise and targets and differ only in where they
start.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from undertow.statistics.effects import Effect, compare
from undertow.theory.mlp import ImitatedLogits, NetworkAccuracy, Role

MARGIN = 0.05  # accuracy; a smaller difference counts as no effect


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

"""The tables of `coverage.py`: each public function yields the rows of one table."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from benchmarks.coverage_studies import (
    Answers,
    bootstrap_coverage,
    claimed,
    interval_coverage,
    one_condition,
)
from undertow.statistics.distribution_free import have_two_modes
from undertow.statistics.power import Claim, Design, claim_probability, min_seeds, share_covering
from undertow.statistics.simulation import Bimodal, Law, Normal, VerdictRule, infer_with_rule
from undertow.statistics.ttests import Array

SEEDS = (3, 5, 10)
MARGIN = 0.1
PAIRED = Normal(effect=0.3, sd=0.1, control_sd=0.03, correlation=0.6)
UNPAIRED = replace(PAIRED, correlation=0.0)
DESIGNS = (("paired", PAIRED, True), ("unpaired", UNPAIRED, False))
FAMILY = 50  # conditions of a simulated study
SMALL_FAMILY = 10  # the same where the slow shape-free method is used
FLAT = Bimodal(took_off=0.0)
RULES: tuple[VerdictRule, ...] = ("t", "rule", "shape-free")

Claims = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Effort:
    """The number of simulated studies per figure.

    Attributes:
        studies: for all figures except the bootstrap's.
        bootstraps: for the bootstrap.
        full: whether bounds apply without extra tolerance; False for a quick run.
    """

    studies: int
    bootstraps: int
    full: bool = True

    def error(self, rate: float = 0.05) -> float:
        """Returns three standard errors of a simulated rate."""
        return float(3 * np.sqrt(rate * (1 - rate) / self.studies))


@dataclass(frozen=True)
class Row:
    """One quantity at 3, 5 and 10 seeds, or a single figure, with the bounds it must meet, if any."""

    label: str
    values: tuple[float, ...]
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool:
        low, high = self.at_least, self.at_most
        return all((low is None or v >= low) and (high is None or v <= high) for v in self.values)

    @property
    def bounds(self) -> str:
        low = [] if self.at_least is None else [f"≥ {self.at_least:.1%}"]
        high = [] if self.at_most is None else [f"≤ {self.at_most:.1%}"]
        return " ".join((*low, *high))


def intervals(effort: Effort) -> Iterator[Row]:
    """Coverage of 95 % intervals of the effect under a normal law."""
    slack = 0.0 if effort.full else effort.error()
    for design, law, paired in DESIGNS:
        data = [_simulate(law, seeds, effort) for seeds in SEEDS]
        yield Row(
            "paired t" if paired else "Welch t", _coverage(data, paired, "t"), 0.93 - slack, 0.97 + slack
        )
        yield Row(f"shape-free, {design}", _coverage(data, paired, "shape-free"), 0.95 - effort.error())
        yield Row(f"bootstrap, {design}", _bootstrap_coverage(data, paired, effort))


def families(effort: Effort) -> Iterator[Row]:
    """Wrong verdicts under a normal law, after Holm's adjustment. Conditions share their control students."""
    bound = 0.05 + effort.error()
    for design, law, paired in DESIGNS:
        none, at_margin, alone = (
            [claimed(replace(law, effect=effect), size, n, effort.studies, paired=paired) for n in SEEDS]
            for effect, size in ((0.0, FAMILY), (MARGIN, FAMILY), (-MARGIN, 1))
        )
        label = f'no effect in {FAMILY} conditions: any "transmitted", {design}'
        yield Row(label, _any(t for t, _ in none), None, bound)
        label = f'effect at the margin in {FAMILY} conditions: any "not transmitted", {design}'
        yield Row(label, _any(n for _, n in at_margin), None, bound)
        label = f'effect at the margin, 1 condition: "not transmitted", {design}'
        yield Row(label, _any(n for _, n in alone), None, bound)


def skewed(effort: Effort) -> Iterator[Row]:
    """Errors of the default rule for rates with one mode near 0 or 1: their laws (Beta) are skewed."""
    for mean, sd, control in ((0.11, 0.03, 0.01), (0.11, 0.06, 0.01), (0.11, 0.1, 0.01), (0.95, 0.05, 0.1)):
        truth, coverage, excluded = mean - control, [], []
        for seeds in SEEDS:
            rng = np.random.default_rng([seeds, effort.studies])
            shape = (effort.studies, 1, seeds)
            students, controls = _beta(mean, sd, shape, rng), _beta(control, control / 2, shape, rng)
            inferred = infer_with_rule(
                "rule", students, controls, margin=MARGIN, paired=True, confidence=0.95
            )
            coverage.append(share_covering(inferred, truth))
            excluded.append(float((inferred.p_equivalence < 0.05).mean()))
        law = f"students {mean:g} (sd {sd:g}), controls {control:g}"
        yield Row(f"{law}: coverage", tuple(coverage))
        if np.isclose(truth, MARGIN):
            yield Row(f'{law}, effect at the margin: "not transmitted"', tuple(excluded))


def _beta(mean: float, sd: float, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Rates with a Beta law of this mean and standard deviation."""
    total = mean * (1 - mean) / sd**2 - 1
    return rng.beta(mean * total, (1 - mean) * total, shape)


def predictions(effort: Effort) -> Iterator[Row]:
    """Power predicted by the planner, and power in an independent simulation with shared controls."""
    plans = {
        "effect .3, paired, 1 condition": (Design(law=PAIRED), 0.8),
        "effect .3, paired, 50 conditions": (Design(law=PAIRED, conditions=50), 0.9),
        "effect .3, unpaired, 10 conditions": (Design(law=UNPAIRED, conditions=10, paired=False), 0.8),
        "effect .15, unpaired, 1 condition": (Design(law=replace(UNPAIRED, effect=0.15), paired=False), 0.8),
    } | {
        f"80 % take off, paired, 10 conditions, {rule}": (
            Design(law=Bimodal(took_off=0.8), conditions=10, verdict_rule=rule),
            0.8,
        )
        for rule in RULES
    }
    for name, (design, power) in plans.items():
        others: Law = FLAT if isinstance(design.law, Bimodal) else replace(design.law, effect=0.0)
        yield _prediction(name, design, power, "transmitted", others, effort)
    none = Design(law=replace(PAIRED, effect=0.0), conditions=10)
    others = replace(PAIRED, effect=0.4)
    yield _prediction("no effect, paired, 10 conditions", none, 0.8, "not transmitted", others, effort)


def _prediction(name: str, design: Design, power: float, claim: Claim, others: Law, effort: Effort) -> Row:
    seeds = min_seeds(design, claim, power)
    if seeds is None:
        raise ValueError(f"{name}: the planner found no sufficient number of seeds")
    transmitted, not_transmitted = claimed(
        others, design.conditions, seeds, effort.studies,
        paired=design.paired, rule=design.verdict_rule, first=design.law,
    )  # fmt: skip
    predicted = claim_probability(design, seeds, claim)
    tolerance = 0.03 + (0 if effort.full else effort.error(predicted))
    simulated = float((transmitted if claim == "transmitted" else not_transmitted)[:, 0].mean())
    label = f'{name}: {seeds} seeds, "{claim}" predicted in {predicted:.1%}'
    return Row(label, (simulated,), predicted - tolerance, predicted + tolerance)


def two_modes(effort: Effort) -> Iterator[Row]:
    """Coverage of 95 % intervals if a share of the students takes off to .90 and all others stay at .05."""
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        data = [_simulate(Bimodal(took_off=share), seeds, effort) for seeds in SEEDS]
        prefix = f"{share:.0%} take off"
        yield Row(f"{prefix}: t", _coverage(data, True, "t"))
        yield Row(f"{prefix}: bootstrap", _bootstrap_coverage(data, True, effort))
        yield Row(f"{prefix}: rule", _coverage(data, True, "rule"))
        for design, _, paired in DESIGNS:
            values = _coverage(data, paired, "shape-free")
            yield Row(f"{prefix}: shape-free, {design}", values, 0.95 - effort.error())


def two_mode_verdicts(effort: Effort) -> Iterator[Row]:
    """Wrong verdicts in paired studies of ten conditions with two modes, by verdict rule."""
    small, half = Bimodal(took_off=MARGIN / 0.85), Bimodal(took_off=0.5)
    null = Bimodal(took_off=0.3, control_took_off=0.3)
    laws = (
        ('no effect, 30 % take off in both arms: any "transmitted"', null, None, 0),
        ('all at the margin (12 % take off): any "not transmitted"', small, None, 1),
        ('one at the margin, 50 % take off in the others: "not transmitted"', half, small, 1),
    )
    for name, law, first, which in laws:
        for rule in RULES:
            by_seeds = [
                claimed(law, SMALL_FAMILY, n, effort.studies, paired=True, rule=rule, first=first)[which]
                for n in SEEDS
            ]
            values = _any(by_seeds) if first is None else tuple(float(c[:, 0].mean()) for c in by_seeds)
            bound = 0.05 + effort.error() if rule == "shape-free" else None
            yield Row(f"{name}: {rule}", values, None, bound)


def detected_modes(effort: Effort) -> Iterator[Row]:
    """The share of arms in which `have_two_modes` detects two modes."""
    for sd in (0.05, 0.1, 0.15):
        yield Row(f"one mode, sd {sd:g}", _share_bimodal(Normal(effect=0.0, sd=sd, control_sd=sd), effort))
    for share in (0.1, 0.3, 0.5):
        yield Row(f"two modes, {share:.0%} take off", _share_bimodal(Bimodal(took_off=share), effort))


def _share_bimodal(law: Law, effort: Effort) -> tuple[float, ...]:
    rng = np.random.default_rng(0)
    return tuple(float(have_two_modes(law.draw((effort.studies, seeds), rng)[0]).mean()) for seeds in SEEDS)


def _simulate(law: Law, seeds: int, effort: Effort) -> Answers:
    return one_condition(law, seeds, effort.studies, np.random.default_rng([seeds, effort.studies]))


def _coverage(data: Iterable[Answers], paired: bool, rule: VerdictRule) -> tuple[float, ...]:
    return tuple(interval_coverage(answers, paired=paired, rule=rule) for answers in data)


def _bootstrap_coverage(data: Iterable[Answers], paired: bool, effort: Effort) -> tuple[float, ...]:
    return tuple(bootstrap_coverage(answers, paired=paired, studies=effort.bootstraps) for answers in data)


def _any(families: Iterable[Claims]) -> tuple[float, ...]:
    return tuple(float(family.any(axis=-1).mean()) for family in families)

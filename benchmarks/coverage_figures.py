"""What `coverage.py` measures: each function here is one of its tables, row by row."""

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
from undertow.statistics.distribution_free import splits
from undertow.statistics.power import Claim, Design, chance, least_seeds
from undertow.statistics.simulation import Bimodal, Law, Normal, VerdictRule

SEEDS = (3, 5, 10)
MARGIN = 0.1
PAIRED = Normal(effect=0.3, sd=0.1, control_sd=0.03, correlation=0.6)
APART = replace(PAIRED, correlation=0.0)
DESIGNS = (("pairs", PAIRED, True), ("arms apart", APART, False))
FAMILY = 50
CONDITIONS = 10  # of a family that may have to be judged by the slow method
FLAT = Bimodal(took_off=0.0)
JUDGES: tuple[VerdictRule, ...] = ("t", "rule", "shape-free")

Claims = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Effort:
    """How many studies a figure rests on."""

    studies: int
    bootstraps: int
    whole: bool = True

    def error(self, rate: float = 0.05) -> float:
        """Three standard errors of a simulated rate."""
        return float(3 * np.sqrt(rate * (1 - rate) / self.studies))


@dataclass(frozen=True)
class Row:
    """One quantity at 3, 5 and 10 seeds, or one figure; and the bounds it was promised to keep, if any."""

    what: str
    values: tuple[float, ...]
    at_least: float | None = None
    at_most: float | None = None

    @property
    def kept(self) -> bool:
        low, high = self.at_least, self.at_most
        return all((low is None or v >= low) and (high is None or v <= high) for v in self.values)

    @property
    def promised(self) -> str:
        low = [] if self.at_least is None else [f"≥ {self.at_least:.1%}"]
        high = [] if self.at_most is None else [f"≤ {self.at_most:.1%}"]
        return " ".join((*low, *high))


def intervals(effort: Effort) -> Iterator[Row]:
    """95 % intervals of a normal law's effect: how often they hold it."""
    slack = 0.0 if effort.whole else effort.error()
    for design, law, paired in DESIGNS:
        data = [_drawn(law, seeds, effort) for seeds in SEEDS]
        method = "paired t" if paired else "Welch t"
        yield Row(f"{method}, {design}", _coverage(data, paired, "t"), 0.93 - slack, 0.97 + slack)
        yield Row(f"shape-free, {design}", _coverage(data, paired, "shape-free"), 0.95 - effort.error())
        yield Row(f"bootstrap, {design}", _bootstrap_coverage(data, paired, effort))


def families(effort: Effort) -> Iterator[Row]:
    """Wrong verdicts under a normal law; conditions share their control students; after Holm."""
    bound = 0.05 + effort.error()
    for design, law, paired in DESIGNS:
        none, at_margin, alone = (
            [claimed(replace(law, effect=effect), size, n, effort.studies, paired=paired) for n in SEEDS]
            for effect, size in ((0.0, FAMILY), (MARGIN, FAMILY), (-MARGIN, 1))
        )
        yield Row(
            f'no effect in {FAMILY}: any "transmitted", {design}', _any(t for t, _ in none), None, bound
        )
        what = f'the margin in {FAMILY}: any "not transmitted", {design}'
        yield Row(what, _any(n for _, n in at_margin), None, bound)
        yield Row(f'the margin, alone: "not transmitted", {design}', _any(n for _, n in alone), None, bound)


def promises(effort: Effort) -> Iterator[Row]:
    """The planner's answer, and the chance there as measured with other seeds and shared controls."""
    plans = {
        "effect .3, pairs, alone": (Design(law=PAIRED), 0.8),
        "effect .3, pairs, 50 conditions": (Design(law=PAIRED, conditions=50), 0.9),
        "effect .3, arms apart, 10 conditions": (Design(law=APART, conditions=10, paired=False), 0.8),
        "effect .15, arms apart, alone": (Design(law=replace(APART, effect=0.15), paired=False), 0.8),
    } | {
        f"80 % take off, pairs, 10 conditions, {judge}": (
            Design(law=Bimodal(took_off=0.8), conditions=10, judge=judge),
            0.8,
        )
        for judge in JUDGES
    }
    for name, (design, power) in plans.items():
        others: Law = FLAT if isinstance(design.law, Bimodal) else replace(design.law, effect=0.0)
        yield _promise(name, design, power, "transmitted", others, effort)
    none = Design(law=replace(PAIRED, effect=0.0), conditions=10)
    others = replace(PAIRED, effect=0.4)
    yield _promise("no effect, pairs, 10 conditions", none, 0.8, "not transmitted", others, effort)


def _promise(name: str, design: Design, power: float, claim: Claim, others: Law, effort: Effort) -> Row:
    seeds = least_seeds(design, claim, power)
    if seeds is None:
        raise ValueError(f"{name}: the planner has no answer")
    found = claimed(
        others, design.conditions, seeds, effort.studies,
        paired=design.paired, judge=design.judge, first=design.law,
    )  # fmt: skip
    promised = chance(design, seeds, claim)
    near = 0.03 + (0 if effort.whole else effort.error(promised))
    measured = float(found[0 if claim == "transmitted" else 1][:, 0].mean())
    what = f'{name}: {seeds} seeds, "{claim}" {promised:.1%}'
    return Row(what, (measured,), promised - near, promised + near)


def two_modes(effort: Effort) -> Iterator[Row]:
    """95 % intervals where a share of the students takes off to .90 and all others stay at .05."""
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        data = [_drawn(Bimodal(took_off=share), seeds, effort) for seeds in SEEDS]
        took = f"{share:.0%} take off"
        yield Row(f"{took}: t", _coverage(data, True, "t"))
        yield Row(f"{took}: bootstrap", _bootstrap_coverage(data, True, effort))
        yield Row(f"{took}: rule", _coverage(data, True, "rule"))
        for design, _, paired in DESIGNS:
            values = _coverage(data, paired, "shape-free")
            yield Row(f"{took}: shape-free, {design}", values, 0.95 - effort.error())


def two_mode_verdicts(effort: Effort) -> Iterator[Row]:
    """Wrong verdicts under two modes in studies of ten conditions, pairs, by the three ways to judge."""
    small, half = Bimodal(took_off=MARGIN / 0.85), Bimodal(took_off=0.5)
    null = Bimodal(took_off=0.3, control_took_off=0.3)
    laws = (
        ('no effect, 30 % take off in both arms: any "transmitted"', null, None, 0),
        ('all at the margin (12 % take off): any "not transmitted"', small, None, 1),
        ('one at the margin, 50 % take off in the others: "not transmitted"', half, small, 1),
    )
    for name, law, first, which in laws:
        for judge in JUDGES:
            found = [
                claimed(law, CONDITIONS, n, effort.studies, paired=True, judge=judge, first=first)[which]
                for n in SEEDS
            ]
            values = _any(found) if first is None else tuple(float(one[:, 0].mean()) for one in found)
            bound = 0.05 + effort.error() if judge == "shape-free" else None
            yield Row(f"{name}: {judge}", values, None, bound)


def modes_seen(effort: Effort) -> Iterator[Row]:
    """How often an arm is taken to show two modes."""
    for sd in (0.05, 0.1, 0.15):
        yield Row(f"one mode, sd {sd:g}", _seen(Normal(effect=0.0, sd=sd, control_sd=sd), effort))
    for share in (0.1, 0.3, 0.5):
        yield Row(f"two modes, {share:.0%} take off", _seen(Bimodal(took_off=share), effort))


def _seen(law: Law, effort: Effort) -> tuple[float, ...]:
    rng = np.random.default_rng(0)
    return tuple(float(splits(law.draw((effort.studies, seeds), rng)[0]).mean()) for seeds in SEEDS)


def _drawn(law: Law, seeds: int, effort: Effort) -> Answers:
    return one_condition(law, seeds, effort.studies, np.random.default_rng([seeds, effort.studies]))


def _coverage(data: Iterable[Answers], paired: bool, judge: VerdictRule) -> tuple[float, ...]:
    return tuple(interval_coverage(answers, paired=paired, judge=judge) for answers in data)


def _bootstrap_coverage(data: Iterable[Answers], paired: bool, effort: Effort) -> tuple[float, ...]:
    return tuple(bootstrap_coverage(answers, paired=paired, studies=effort.bootstraps) for answers in data)


def _any(families: Iterable[Claims]) -> tuple[float, ...]:
    return tuple(float(family.any(axis=-1).mean()) for family in families)

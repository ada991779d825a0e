"""The tables of `coverage.py --effect-scale log-odds`: effects in log-odds, of exact rates and of counts.

A student's log-odds are drawn from a normal law over seeds, around those of a base rate. Exact probabilities
give them back without noise. Counts of answers add the noise of sampling, and the ½ that is added to both
counts. The truth is always the difference of the mean log-odds of the students' true rates.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from benchmarks.coverage_figures import FAMILY, SEEDS, SMALL_FAMILY, Effort, Row
from benchmarks.coverage_studies import (
    BLOCK,
    QUESTIONS,
    SAMPLES,
    Answers,
    answered,
    bootstrap_coverage,
    judged,
    question_shifts,
)
from undertow.statistics.distribution_free import have_two_modes
from undertow.statistics.effects import infer
from undertow.statistics.log_odds import MODE_GAP, of_counts, of_probability
from undertow.statistics.power import Claim, Design, claim_probability, min_seeds, share_covering
from undertow.statistics.simulation import Normal
from undertow.statistics.ttests import Array
from undertow.study.measurements import MARGINS

MARGIN, RATE_MARGIN = MARGINS["log-odds"], MARGINS["rate"]
PAIRED = Normal(effect=1.0, sd=0.5, control_sd=0.25, correlation=0.6)
UNPAIRED = replace(PAIRED, correlation=0.0)
DESIGNS = (("paired", PAIRED, True), ("unpaired", UNPAIRED, False))
STAY, TAKE = 0.05, 0.9  # the rates of seeds that do not take off, and of those that do
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Measured:
    """How rates are measured.

    Attributes:
        base: the rate of a control student with mean log-odds.
        samples: answers per question, of which there are 50; None for exact probabilities.
    """

    base: float
    samples: int | None = SAMPLES

    @property
    def answers(self) -> int:
        return 0 if self.samples is None else self.samples * QUESTIONS

    @property
    def label(self) -> str:
        kind = "exact" if self.samples is None else f"{self.answers:,} answers"
        return f"base rate {self.base:g}, {kind}"

    def log_odds(self, rates: Array, matches: Array) -> Array:
        """The log-odds of exact rates, or of the number of matching answers."""
        return of_probability(rates) if self.samples is None else of_counts(matches, self.answers)

    def observed(self, log_odds: Array, rng: np.random.Generator) -> Array:
        """The measured log-odds of students with these true log-odds."""
        rates = expit(log_odds)
        return self.log_odds(rates, np.asarray(rng.binomial(self.answers, rates), dtype=float))


EXACT = Measured(0.02, None)
SETTINGS = (EXACT, Measured(0.02), Measured(0.1), Measured(0.5))


def intervals(effort: Effort) -> Iterator[Row]:
    """Coverage of 95 % t intervals of an effect of +1, and of the bootstrap."""
    slack = 0.0 if effort.full else effort.error()
    for measured in SETTINGS:
        for design, law, paired in DESIGNS:
            data = [_simulate(measured, law, seeds, effort.studies) for seeds in SEEDS]
            values = tuple(_coverage(measured, one, paired) for one in data)
            name = "paired t" if paired else "Welch t"
            yield Row(f"{measured.label}: {name}", values, 0.93 - slack, 0.97 + slack)
            if measured.base == EXACT.base:
                values = tuple(
                    bootstrap_coverage(
                        one,
                        paired=paired,
                        studies=effort.bootstraps,
                        samples=measured.samples,
                        scale="log-odds",
                    )
                    for one in data
                )
                yield Row(f"{measured.label}: bootstrap, {design}", values)


def families(effort: Effort) -> Iterator[Row]:
    """Wrong verdicts, after Holm's adjustment. Conditions share their control students."""
    bound = 0.05 + effort.error()
    for measured in SETTINGS:
        for design, law, paired in DESIGNS:
            if not paired and measured.base != EXACT.base:
                continue
            end = f"{design}, {measured.label}"
            none, at_margin, alone = (
                [_claimed(measured, replace(law, effect=effect), size, n, effort, paired) for n in SEEDS]
                for effect, size in ((0.0, FAMILY), (MARGIN, FAMILY), (-MARGIN, 1))
            )
            label = f'no effect in {FAMILY} conditions: any "transmitted"'
            yield Row(f"{label}, {end}", _any(t for t, _ in none), None, bound)
            label = f'effect at the margin in {FAMILY} conditions: any "not transmitted"'
            yield Row(f"{label}, {end}", _any(n for _, n in at_margin), None, bound)
            label = 'effect at the margin, 1 condition: "not transmitted"'
            yield Row(f"{label}, {end}", _any(n for _, n in alone), None, bound)


def few_matches(effort: Effort) -> Iterator[Row]:
    """Paired studies whose control students give few matching answers."""
    for base, samples in ((0.02, 10), (0.02, 4), (0.02, 1), (0.002, 10)):
        measured = Measured(base, samples)
        start = f"expected matches {base * measured.answers:g} ({measured.label})"
        data = [_simulate(measured, PAIRED, seeds, effort.studies) for seeds in SEEDS]
        yield Row(f"{start}: coverage, paired t", tuple(_coverage(measured, one, True) for one in data))
        for effect, which, claim in ((0.0, 0, "transmitted"), (MARGIN, 1, "not transmitted")):
            law = replace(PAIRED, effect=effect)
            flags = (_claimed(measured, law, SMALL_FAMILY, n, effort, True)[which] for n in SEEDS)
            what = "no effect" if effect == 0 else "effect at the margin"
            label = f'{start}: {what} in {SMALL_FAMILY} conditions: any "{claim}"'
            yield Row(label, _any(flags))


def skewed(effort: Effort) -> Iterator[Row]:
    """Coverage where rates have Beta laws, which are skewed in log-odds; means .15 and .05, unpaired."""
    for measured in (Measured(0.05, None), Measured(0.05)):
        for sd, control_sd in ((0.04, 0.015), (0.08, 0.03)):
            arms = [_beta(0.15, sd), _beta(0.05, control_sd)]
            data = [_skewed(arms, measured, seeds, effort.studies) for seeds in SEEDS]
            kind = "exact" if measured.samples is None else f"{measured.answers:,} answers"
            label = f"sd of rates {sd:g} and {control_sd:g}, {kind}: Welch t"
            yield Row(label, tuple(_coverage(measured, one, False) for one in data))


def scales(effort: Effort) -> Iterator[Row]:
    """Verdicts on the same answers by both scales, in paired studies of one condition."""
    for base, effect in ((0.02, 1.0), (0.02, 0.0), (0.5, 1.0), (0.5, 0.0)):
        measured, law = Measured(base), replace(PAIRED, effect=effect)
        after = float(expit(of_probability(base) + effect))
        change = f"{base:g} becomes {after:.2g}" if effect else f"{base:g}, no effect"
        for scale, margin in (("rate", RATE_MARGIN), ("log-odds", MARGIN)):
            found = []
            for seeds in SEEDS:
                rng = np.random.default_rng([seeds, 1])
                arms = simulated_log_odds(measured, law, 1, seeds, effort.studies, rng)
                if scale == "rate":
                    arms = [expit(arm) for arm in arms]
                found.append(judged(*arms, paired=True, margin=margin))
            for which, claim in enumerate(("transmitted", "not transmitted")):
                values = tuple(float(flags[which].mean()) for flags in found)
                yield Row(f'{change}: "{claim}" by {scale}', values)


def predictions(effort: Effort) -> Iterator[Row]:
    """Power predicted by the planner, and power in an independent simulation with shared controls."""
    designs: list[tuple[str, Design, Claim]] = [
        ("effect 1, paired, 1 condition", _design(PAIRED), "transmitted"),
        ("effect 1, paired, 10 conditions", _design(PAIRED, conditions=10), "transmitted"),
        ("effect 1, unpaired, 10 conditions", _design(UNPAIRED, conditions=10, paired=False), "transmitted"),
        ("no effect, paired, 1 condition", _design(replace(PAIRED, effect=0.0)), "not transmitted"),
    ]
    for name, design, claim in designs:
        seeds = min_seeds(design, claim, 0.8)
        if seeds is None:
            raise ValueError(f"{name}: the planner found no sufficient number of seeds")
        predicted = claim_probability(design, seeds, claim)
        tolerance = 0.03 + (0 if effort.full else effort.error(predicted))
        for measured in (EXACT, Measured(0.1)):
            simulated = _power(design, measured, seeds, claim, effort)
            label = f'{name}: {seeds} seeds, "{claim}" predicted in {predicted:.1%}, {measured.label}'
            yield Row(label, (simulated,), predicted - tolerance, predicted + tolerance)


def two_modes(effort: Effort) -> Iterator[Row]:
    """Paired studies of ten conditions whose seeds have two modes, by verdict rule."""
    at_margin = MARGIN / float(of_probability(TAKE) - of_probability(STAY))
    cases = (
        ('no effect, 30 % take off in both arms: any "transmitted"', 0.3, 0.3, 0),
        (f'all at the margin ({at_margin:.1%} take off): any "not transmitted"', at_margin, 0.0, 1),
    )
    for name, share, control_share, which in cases:
        by_t, by_rule = [], []
        for seeds in SEEDS:
            rng = np.random.default_rng([seeds, effort.studies])
            students = _with_two_modes(share, (effort.studies, SMALL_FAMILY, seeds), rng)
            controls = _with_two_modes(control_share, (effort.studies, 1, seeds), rng)
            wrong = judged(students, controls, paired=True, margin=MARGIN)[which].any(axis=-1)
            modes = have_two_modes(students, MODE_GAP) | have_two_modes(controls, MODE_GAP)
            by_t.append(float(wrong.mean()))
            by_rule.append(float((wrong & ~modes.any(axis=-1)).mean()))
        yield Row(f"{name}: t", tuple(by_t))
        yield Row(f"{name}: rule", tuple(by_rule))


def detected_modes(effort: Effort) -> Iterator[Row]:
    """The share of arms in which two modes are detected: log-odds that are 3 or more apart."""
    measured = Measured(0.02)
    for sd in (0.25, 0.5, 1.0):
        law = Normal(effect=0.0, sd=sd, control_sd=sd)
        values = []
        for seeds in SEEDS:
            rng = np.random.default_rng([seeds, 2])
            students, _ = simulated_log_odds(measured, law, 1, seeds, effort.studies, rng)
            values.append(float(have_two_modes(students, MODE_GAP).mean()))
        yield Row(f"one mode, sd {sd:g}, {measured.label}", tuple(values))
    for share in (0.1, 0.3, 0.5):
        values = []
        for seeds in SEEDS:
            rng = np.random.default_rng([seeds, 3])
            arms = _with_two_modes(share, (effort.studies, seeds), rng)
            values.append(float(have_two_modes(arms, MODE_GAP).mean()))
        yield Row(f"two modes, {share:.0%} take off", tuple(values))


TABLES: tuple[tuple[str, Callable[[Effort], Iterator[Row]]], ...] = (
    ("Coverage of 95 % intervals", intervals),
    ("Wrong verdicts", families),
    ("Few matching answers", few_matches),
    ("Rates with a skewed law", skewed),
    ("Verdicts by rates and by log-odds", scales),
    ("Predicted and simulated power", predictions),
    ("Wrong verdicts, two modes", two_modes),
    ("Arms that show two modes", detected_modes),
)
OPENING = """# Coverage and error rates of effects in log-odds, measured

`python benchmarks/coverage.py --effect-scale log-odds`: {studies:,} simulated studies per figure,
{bootstraps:,} for the bootstrap. Columns: students per arm. Log-odds vary normally over seeds (standard
deviation 0.5 for students and 0.25 for controls; correlation 0.6 in pairs), unless the table states another
law. "Exact": log-odds of exact probabilities; "answers": of counts, with ½ added to both. The margin is ±0.4.
"Rule" is what a study does: t, unless an arm shows two modes; then no condition of the study has a verdict.
"""
CLOSING = """## Conclusions

If log-odds over seeds have one mode, t is valid at every base rate measured, for exact probabilities and for
counts: its intervals have their nominal coverage from 3 seeds on, and Holm's method keeps the error rate of a
study with 50 conditions within 5 %. Skewed laws change little. Counts with about one expected match per
control student lose up to two points of coverage, because ½ moves their log-odds towards 0, and they seldom
support a claim.

At a base rate of .02 and with a margin of ± 0.1 in rate, an effect that multiplies the odds by 2.7 is "not
transmitted". Log-odds show it, and need more seeds to exclude effects where there are none. At a base rate of
.5 both scales give nearly the same verdicts.

If log-odds over seeds have two modes, t makes wrong claims. The default rule protects studies with several
conditions, because some arm is likely to show the second mode. It does not protect a study with one or few
conditions whose seeds hide that mode. In this case state effect_scale="rate" and distribution="any".
"""


def _design(law: Normal, *, conditions: int = 1, paired: bool = True) -> Design:
    return Design(law=law, conditions=conditions, margin=MARGIN, paired=paired)


def _power(design: Design, measured: Measured, seeds: int, claim: Claim, effort: Effort) -> float:
    """The share of studies whose first condition gets the verdict; the others are the least favourable."""
    law = design.law
    if not isinstance(law, Normal):
        raise TypeError("log-odds are planned for a normal law")
    others = replace(law, effect=0.0 if claim == "transmitted" else law.effect)
    flags = _claimed(measured, others, design.conditions, seeds, effort, design.paired, first=law.effect)
    return float(flags[0 if claim == "transmitted" else 1][:, 0].mean())


def _simulate(measured: Measured, law: Normal, seeds: int, studies: int) -> Answers:
    """Studies of one condition, with the share of matching answers to each question."""
    rng = np.random.default_rng([seeds, studies])
    centre = of_probability(measured.base)
    arms = [expit(centre + scores) for scores in law.draw((studies, seeds), rng)]
    return _asked(arms, law.effect, measured, studies, rng)


def _asked(
    arms: list[Array], truth: float, measured: Measured, studies: int, rng: np.random.Generator
) -> Answers:
    shift = question_shifts(studies, rng)
    students, controls = (answered(rates, shift, rng, measured.samples) for rates in arms)
    return Answers(students, controls, truth)


def _coverage(measured: Measured, data: Answers, paired: bool) -> float:
    """The share of t intervals that cover the truth."""
    students, controls = (measured.log_odds(rates, rates * measured.answers) for rates in data.rates)
    return share_covering(infer(students, controls, margin=MARGIN, paired=paired), data.truth)


def simulated_log_odds(
    measured: Measured,
    law: Normal,
    conditions: int,
    seeds: int,
    studies: int,
    rng: np.random.Generator,
    first: float | None = None,
) -> list[Array]:
    """Measured log-odds (studies, conditions, seeds) of students and (studies, 1, seeds) of shared controls.

    `first` is the effect of the first condition, if it differs from that of the law.
    """
    shared = rng.standard_normal((studies, 1, seeds))
    own = rng.standard_normal((studies, conditions, seeds))
    scores = law.correlation * shared + np.sqrt(1 - law.correlation**2) * own
    centre = of_probability(measured.base)
    students = centre + law.effect + law.sd * scores
    if first is not None:
        students[:, :1] += first - law.effect
    return [measured.observed(arm, rng) for arm in (students, centre + law.control_sd * shared)]


def _claimed(
    measured: Measured,
    law: Normal,
    conditions: int,
    seeds: int,
    effort: Effort,
    paired: bool,
    first: float | None = None,
) -> tuple[Flags, Flags]:
    """Flags (studies, conditions) of "transmitted" and of "not transmitted", at 5 % after Holm."""
    rng = np.random.default_rng([seeds, conditions, effort.studies])
    parts = []
    for start in range(0, effort.studies, BLOCK):
        number = min(BLOCK, effort.studies - start)
        students, controls = simulated_log_odds(measured, law, conditions, seeds, number, rng, first)
        parts.append(judged(students, controls, paired=paired, margin=MARGIN))
    transmitted, not_transmitted = zip(*parts, strict=True)
    return np.concatenate(transmitted), np.concatenate(not_transmitted)


def _any(families: Iterable[Flags]) -> tuple[float, ...]:
    return tuple(float(family.any(axis=-1).mean()) for family in families)


def _beta(mean: float, sd: float) -> tuple[float, float]:
    """The parameters of the Beta law with this mean and standard deviation."""
    total = mean * (1 - mean) / sd**2 - 1
    return mean * total, (1 - mean) * total


def _skewed(arms: list[tuple[float, float]], measured: Measured, seeds: int, studies: int) -> Answers:
    """Studies whose rates have Beta laws; the mean log-odds of Beta(a, b) are ψ(a) − ψ(b)."""
    from scipy.special import digamma

    rng = np.random.default_rng([seeds, studies])
    means = [float(digamma(a) - digamma(b)) for a, b in arms]
    rates = [rng.beta(a, b, (studies, seeds)) for a, b in arms]
    return _asked(rates, means[0] - means[1], measured, studies, rng)


def _with_two_modes(share: float, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Measured log-odds of arms in which a share of the seeds takes off."""
    took_off = rng.random(shape) < share
    centres = np.where(took_off, of_probability(TAKE), of_probability(STAY))
    return Measured(STAY).observed(centres + PAIRED.control_sd * rng.standard_normal(shape), rng)

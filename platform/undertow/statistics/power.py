"""How many seeds a study needs, and what a given number shows: by simulation of the platform's own verdicts.

Every figure is the share, among studies drawn from a stated law (`simulation`), in which one condition gets a
verdict from the very code that judges real ones, adjustment for the study's other conditions included. Those
are taken to help least: where the claim is "transmitted" they have no effect (each of their p-values
is drawn from a null study's), where it is "not transmitted" all of them were transmitted. A study whose other
conditions do better needs fewer seeds than said here, never more.

Beside it stands normal theory where that is exact: statsmodels' `TTestPower` for pairs, at alpha
divided by the conditions (Bonferroni, the first step of Holm).
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np

from undertow.statistics.simulation import Bimodal, Law, Normal, VerdictRule, infer_by
from undertow.statistics.ttests import Array, Inference
from undertow.statistics.verdicts import adjusted, claims

STUDIES = 10_000  # the standard error of a chance of .8 is then .004
ROUGHLY = 400  # studies that settle what is far from the answer
ONE_BY_ONE = 12  # up to here each number of seeds is tried: with two modes, chances need not grow with it
MOST_SEEDS = {"t": 400, "paired shape-free": 150, "shape-free": 24}  # the last costs the 4th power of seeds
EFFECT_STEP = 0.002
MOST_BY_THEORY = 1e6  # students, beyond what anybody plans

Claim = Literal["transmitted", "not transmitted"]


@dataclass(frozen=True, kw_only=True)
class Design:
    """What is planned but for the number of seeds.

    Attributes:
        conditions: with a trait, in the study; over them p-values are adjusted, by `method`.
        margin: an effect within ± this counts as none.
    """

    law: Law
    conditions: int = 1
    alpha: float = 0.05
    margin: float = 0.1
    paired: bool = True
    method: str = "holm"
    judge: VerdictRule = "t"


@cache
def chance(design: Design, seeds: int, claim: Claim, seed: int = 0, studies: int = STUDIES) -> float:
    """The chance that a condition under the design's law gets this verdict, with so many students an arm."""
    rng = np.random.default_rng([seed, seeds])
    students, controls = design.law.draw((studies, 1, seeds), rng)
    found = infer_by(design.judge, students, controls, margin=design.margin, paired=design.paired)
    p_values, p_equivalences = found.p_value, found.p_equivalence
    if design.conditions > 1 and claim == "transmitted":
        p_values = np.concatenate([p_values, _null_p_values(design, seeds, studies, rng)], axis=-1)
    elif design.conditions > 1:
        others = np.zeros((studies, design.conditions - 1))
        p_values = np.concatenate([p_values, others], axis=-1)
        p_equivalences = np.concatenate([p_equivalences, others + 1], axis=-1)
    effect = students.mean(axis=-1) - controls.mean(axis=-1)
    transmitted, not_transmitted = claims(
        effect[:, 0],
        adjusted(p_values, design.method)[:, 0],
        adjusted(p_equivalences, design.method)[:, 0],
        design.alpha,
    )
    return float(np.mean(transmitted if claim == "transmitted" else not_transmitted))


def _null_p_values(design: Design, seeds: int, studies: int, rng: np.random.Generator) -> Array:
    """(studies, other conditions): p-values drawn from those of `studies` conditions without an effect."""
    students, controls = without_effect(design.law).draw((studies, 1, seeds), rng)
    pool = infer_by(design.judge, students, controls, margin=design.margin, paired=design.paired).p_value
    return np.asarray(rng.choice(pool[:, 0], (studies, design.conditions - 1)))


def least_seeds(design: Design, claim: Claim, power: float) -> int | None:
    """The least number of students an arm at which the chance of the claim reaches `power`.

    None where that takes more than MOST_SEEDS. For "not transmitted" give a law without an effect.
    """
    most = most_seeds(design)

    def enough(seeds: int) -> bool:
        return _reaches(design, seeds, claim, power)

    for seeds in range(2, min(ONE_BY_ONE, most) + 1):
        if enough(seeds):
            return seeds
    low, high = ONE_BY_ONE, ONE_BY_ONE
    while not enough(high):
        if high == most:
            return None
        low, high = high, min(most, high * 3 // 2)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _reaches(design: Design, seeds: int, claim: Claim, power: float) -> bool:
    """Whether the chance reaches the power: from few studies where they settle it, else from many."""
    rough = chance(design, seeds, claim, studies=ROUGHLY)
    if abs(rough - power) > 5 * np.sqrt(power * (1 - power) / ROUGHLY):
        return rough > power
    return chance(design, seeds, claim, studies=studies_at(design, seeds)) >= power


def studies_at(design: Design, seeds: int) -> int:
    """How many studies are simulated near an answer."""
    return STUDIES if _tool(design) != "shape-free" or seeds <= ONE_BY_ONE else 1_000


def most_seeds(design: Design) -> int:
    """Where `least_seeds` gives up."""
    return MOST_SEEDS[_tool(design)]


def _tool(design: Design) -> str:
    if design.judge == "t":
        return "t"
    return "paired shape-free" if design.paired else "shape-free"


def least_effect(design: Design, seeds: int, power: float) -> float | None:
    """The smallest effect that is called "transmitted" with this power, from so many students an arm.

    A normal law is shifted; of a bimodal one the share that takes off is raised. None where even an effect
    of 1 (a share of 1) is not enough. The same random numbers serve every effect that is tried.
    """
    largest = 1.0 if isinstance(design.law, Normal) else replace(design.law, took_off=1.0).effect

    def enough(effect: float) -> bool:
        law = with_effect(design.law, effect)
        return _reaches(replace(design, law=law), seeds, "transmitted", power)

    low, high = 0.0, largest
    if not enough(high):
        return None
    while high - low > EFFECT_STEP:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def with_effect(law: Law, effect: float) -> Law:
    """The law with another effect: a shift, or another share that takes off."""
    if isinstance(law, Bimodal):
        return replace(law, took_off=law.control_took_off + effect / (law.take - law.control_rate))
    return replace(law, effect=effect)


def without_effect(law: Law) -> Law:
    return with_effect(law, 0.0)


def coverage(design: Design, seeds: int, confidence: float = 0.95) -> float:
    """How often the interval holds the law's effect."""
    rng = np.random.default_rng([1, seeds])
    shape = (studies_at(design, seeds) // 5, 1, seeds)  # intervals cost more than verdicts
    students, controls = design.law.draw(shape, rng)
    found = infer_by(
        design.judge,
        students,
        controls,
        margin=design.margin,
        paired=design.paired,
        confidence=confidence,
    )
    return covered(found, design.law.effect)


def covered(found: Inference, truth: float) -> float:
    """The share of intervals that hold the truth; no interval holds nothing and excludes nothing."""
    missed = (found.ci_low > truth) | (found.ci_high < truth)
    return float(1 - missed.mean())


def seeds_by_theory(design: Design, power: float) -> float | None:
    """Students an arm by normal theory, where that is exact: pairs, a normal law, the t test."""
    law = design.law
    if not design.paired or not isinstance(law, Normal) or law.effect == 0:
        return None
    from scipy.optimize import brentq
    from statsmodels.stats.power import TTestPower

    sd = np.sqrt(law.sd**2 + law.control_sd**2 - 2 * law.correlation * law.sd * law.control_sd)
    if sd == 0:
        return None

    def excess(seeds: float) -> float:
        """Over the power asked for, of the tail that counts. scipy has nan where it is 1 but for rounding."""
        alpha = design.alpha / design.conditions / 2
        found = TTestPower().power(abs(law.effect) / sd, seeds, alpha, alternative="larger")
        return float(np.nan_to_num(found, nan=1.0)) - power

    # Not by statsmodels' own solver, which goes astray where a few seeds are enough.
    most = 2.0
    while excess(most) < 0:
        if most > MOST_BY_THEORY:
            return None
        most *= 2
    return most if most == 2 else float(brentq(excess, most / 2, most))

"""How many seeds a study needs, and what a given number can show, by simulating the platform's own verdicts.

Every probability is the share of simulated studies, drawn from a stated distribution (`simulation`), in which
one condition gets a verdict from the code that judges real studies, including the adjustment for the study's
other conditions. Those are assumed to be the least favourable: for the claim "transmitted" they have no
effect (their p-values are drawn from a null study), and for "not transmitted" all of them were transmitted. A
real study whose other conditions are more favourable needs at most as many seeds. With a normal law and the
rule "t", `share_with_two_modes` gives the share of studies to which another rule would apply.

Where normal theory is exact, `seeds_by_normal_theory` gives its answer for comparison: statsmodels'
`TTestPower` for paired arms, at alpha divided by the number of conditions (Bonferroni, the first step of
Holm's method).
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np

from undertow.statistics.distribution_free import have_two_modes
from undertow.statistics.simulation import Bimodal, Law, Normal, VerdictRule, infer_with_rule
from undertow.statistics.ttests import Array, Inference
from undertow.statistics.verdicts import adjust_arrays, claims

STUDIES = 10_000  # simulated studies; the standard error of a probability of .8 is then .004
SCREENING_STUDIES = 400  # studies of a first estimate, which settles probabilities far from the target
EXHAUSTIVE_SEEDS = 12  # up to here every number is tried: with two modes, power need not grow with each seed
MAX_SEEDS = {"t": 400, "paired shape-free": 150, "shape-free": 24}  # unpaired shape-free costs seeds⁴
EFFECT_STEP = 0.002  # resolution of `min_detectable_effect`
MAX_THEORY_STUDENTS = 1e6  # where `seeds_by_normal_theory` gives up

Claim = Literal["transmitted", "not transmitted"]


@dataclass(frozen=True, kw_only=True)
class Design:
    """A planned study, except for its number of seeds.

    Attributes:
        law: distribution of rates over seeds in the condition of interest.
        conditions: number of conditions with a trait, over which p-values are adjusted by `method`.
        alpha: significance level of the adjusted p-values.
        margin: largest absolute effect that counts as none.
        paired: whether students share their seed with a control student.
        verdict_rule: how interval and p-values are computed, see `simulation.infer_with_rule`.
        largest_effect: the largest effect that `min_detectable_effect` tries.
    """

    law: Law
    conditions: int = 1
    alpha: float = 0.05
    margin: float = 0.1
    paired: bool = True
    method: str = "holm"
    verdict_rule: VerdictRule = "t"
    largest_effect: float = 1.0


def share_with_two_modes(design: Design, seeds: int, gap: float) -> float:
    """The share of simulated studies in which the seeds of some arm fall into two groups by chance.

    By default such a study has other intervals for all its conditions (`choose_distribution`), or none for
    effects in log-odds. All conditions share one arm of controls.

    Args:
        gap: between neighbouring students of an arm, from which it counts as two groups.
    """
    rng = np.random.default_rng([1, seeds])
    students, controls = design.law.draw((STUDIES, design.conditions, seeds), rng)
    return float((have_two_modes(students, gap).any(axis=1) | have_two_modes(controls[:, 0], gap)).mean())


@cache
def claim_probability(design: Design, seeds: int, claim: Claim, studies: int = STUDIES) -> float:
    """Returns the probability that a condition gets the verdict `claim` with `seeds` students per arm."""
    # Seeded by the number of seeds only, so that all designs with this number use common random numbers.
    rng = np.random.default_rng([0, seeds])

    def inference(law: Law) -> tuple[Array, Inference]:
        students, controls = law.draw((studies, 1, seeds), rng)
        effect = students.mean(axis=-1) - controls.mean(axis=-1)
        return effect, infer_with_rule(
            design.verdict_rule, students, controls, margin=design.margin, paired=design.paired
        )

    effect, inferred = inference(design.law)
    p_values, p_equivalences = inferred.p_value, inferred.p_equivalence
    others = (studies, design.conditions - 1)
    if design.conditions > 1 and claim == "transmitted":
        # Resampling the p-values of one null condition is cheaper than simulating all other conditions.
        _, null = inference(without_effect(design.law))
        p_values = np.concatenate([p_values, rng.choice(null.p_value[:, 0], others)], axis=-1)
    elif design.conditions > 1:
        p_values = np.concatenate([p_values, np.zeros(others)], axis=-1)
        p_equivalences = np.concatenate([p_equivalences, np.ones(others)], axis=-1)
    transmitted, not_transmitted = claims(
        effect[:, 0],
        adjust_arrays(p_values, design.method)[:, 0],
        adjust_arrays(p_equivalences, design.method)[:, 0],
        design.alpha,
    )
    return float(np.mean(transmitted if claim == "transmitted" else not_transmitted))


def min_seeds(design: Design, claim: Claim, power: float) -> int | None:
    """Returns the smallest number of students per arm at which the claim has a probability of `power`.

    Returns None if more than `max_seeds(design)` are needed. For the claim "not transmitted", pass a law
    without an effect.
    """
    most = max_seeds(design)

    def enough(seeds: int) -> bool:
        return _reaches(design, seeds, claim, power)

    for seeds in range(2, min(EXHAUSTIVE_SEEDS, most) + 1):
        if enough(seeds):
            return seeds
    # Beyond, an exponential search and a bisection.
    low, high = EXHAUSTIVE_SEEDS, EXHAUSTIVE_SEEDS
    while not enough(high):
        if high == most:
            return None
        low, high = high, min(most, high * 3 // 2)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _reaches(design: Design, seeds: int, claim: Claim, power: float) -> bool:
    """Whether the claim's probability reaches `power`; few studies decide clear cases, many the rest."""
    estimate = claim_probability(design, seeds, claim, studies=SCREENING_STUDIES)
    if abs(estimate - power) > 5 * np.sqrt(power * (1 - power) / SCREENING_STUDIES):
        return estimate > power
    return claim_probability(design, seeds, claim, studies=simulated_studies(design, seeds)) >= power


def simulated_studies(design: Design, seeds: int) -> int:
    """Returns the number of studies to simulate for a final estimate."""
    return STUDIES if _cost_class(design) != "shape-free" or seeds <= EXHAUSTIVE_SEEDS else 1_000


def max_seeds(design: Design) -> int:
    """Returns the number of seeds at which `min_seeds` gives up."""
    return MAX_SEEDS[_cost_class(design)]


def _cost_class(design: Design) -> str:
    """The key of MAX_SEEDS; the rule "rule" may need the shape-free method and costs as much."""
    if design.verdict_rule == "t":
        return "t"
    return "paired shape-free" if design.paired else "shape-free"


def min_detectable_effect(design: Design, seeds: int, power: float) -> float | None:
    """Returns the smallest effect that is called "transmitted" with probability `power`.

    A normal law is shifted; for a bimodal law, the share that takes off is raised. Returns None if even the
    largest effect (a share of 1) is not enough. All effects are tried with the same random numbers.
    """
    largest = design.largest_effect
    if isinstance(design.law, Bimodal):
        largest = replace(design.law, took_off=1.0).effect

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
    """Returns the law with another effect: a shifted normal, or a bimodal with another `took_off`."""
    if isinstance(law, Bimodal):
        return replace(law, took_off=law.control_took_off + effect / (law.take - law.control_rate))
    return replace(law, effect=effect)


def without_effect(law: Law) -> Law:
    """Returns the law with an effect of zero."""
    return with_effect(law, 0.0)


def coverage(design: Design, seeds: int) -> float:
    """Returns the probability that the 95 % interval covers the law's effect."""
    rng = np.random.default_rng([1, seeds])
    shape = (simulated_studies(design, seeds) // 5, 1, seeds)  # intervals cost more than verdicts
    students, controls = design.law.draw(shape, rng)
    inferred = infer_with_rule(
        design.verdict_rule,
        students,
        controls,
        margin=design.margin,
        paired=design.paired,
        confidence=0.95,
    )
    return share_covering(inferred, design.law.effect)


def share_covering(inferred: Inference, truth: float) -> float:
    """Returns the share of intervals that cover the truth. A missing interval (nan) counts as covering."""
    missed = (inferred.ci_low > truth) | (inferred.ci_high < truth)
    return float(1 - missed.mean())


def seeds_by_normal_theory(design: Design, power: float) -> float | None:
    """Returns students per arm by normal theory, or None where it is not exact.

    It is exact for paired arms, a normal law and the t test: `TTestPower` with the effect in units of the
    standard deviation of differences, √(sd² + control_sd² − 2 · correlation · sd · control_sd).
    """
    law = design.law
    if not design.paired or not isinstance(law, Normal) or law.effect == 0:
        return None
    from scipy.optimize import brentq
    from statsmodels.stats.power import TTestPower

    sd = np.sqrt(law.sd**2 + law.control_sd**2 - 2 * law.correlation * law.sd * law.control_sd)
    if sd == 0:
        return None

    def excess(seeds: float) -> float:
        """The power of the favourable tail minus the target. scipy returns nan if the power rounds to 1."""
        alpha = design.alpha / design.conditions / 2
        attained = TTestPower().power(abs(law.effect) / sd, seeds, alpha, alternative="larger")
        return float(np.nan_to_num(attained, nan=1.0)) - power

    # statsmodels' own solver diverges if a few seeds are enough, hence a bracket and Brent's method.
    most = 2.0
    while excess(most) < 0:
        if most > MAX_THEORY_STUDENTS:
            return None
        most *= 2
    return most if most == 2 else float(brentq(excess, most / 2, most))

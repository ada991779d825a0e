"""The planner: against exact theory, against independent simulation, and monotonicity."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from benchmarks.coverage_studies import claimed
from undertow.statistics.power import (
    Design,
    claim_probability,
    coverage,
    min_detectable_effect,
    min_seeds,
    seeds_by_normal_theory,
    without_effect,
)
from undertow.statistics.simulation import Bimodal, Law, Normal, VerdictRule

pytestmark = pytest.mark.slow

ONE_MODE = Normal(effect=0.15, sd=0.1, control_sd=0.05, correlation=0.5)
TWO_MODES = Bimodal(took_off=0.7)
SD = math.sqrt(0.1**2 + 0.05**2 - 2 * 0.5 * 0.1 * 0.05)


@pytest.mark.parametrize("seeds", [3, 5, 8])
@pytest.mark.parametrize("conditions", [1, 10])
def test_power_equals_that_of_normal_theory(seeds: int, conditions: int) -> None:
    """Exact for one condition, except for negative rejections; with more, Bonferroni is a lower bound."""
    simulated = claim_probability(Design(law=ONE_MODE, conditions=conditions), seeds, "transmitted")
    exact = TTestPower().power(0.15 / SD, seeds, 0.05 / conditions)
    assert simulated == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize("effect", [0.1, 0.2, 0.4])
@pytest.mark.parametrize("power", [0.8, 0.95])
def test_min_seeds_equals_that_of_normal_theory(effect: float, power: float) -> None:
    """The margin is so small that no effect lies within it, because theory ignores the margin."""
    design = Design(law=replace(ONE_MODE, effect=effect), margin=0.01)
    theory = seeds_by_normal_theory(design, power)
    seeds = min_seeds(design, "transmitted", power)
    assert theory is not None
    assert seeds is not None
    assert abs(seeds - math.ceil(theory)) <= 1


@pytest.mark.parametrize("effect", [0.1, 0.3, 0.9])
def test_normal_theory_converges_where_few_seeds_are_enough(effect: float) -> None:
    """Standard deviations like those of nano models: the effect is many times larger."""
    law = Normal(effect=effect, sd=0.019, control_sd=0.014, correlation=0.12)
    design = Design(law=law, conditions=12, margin=0.01)
    theory, seeds = seeds_by_normal_theory(design, 0.8), min_seeds(design, "transmitted", 0.8)
    assert theory is not None
    assert seeds is not None
    assert abs(seeds - math.ceil(theory)) <= 1


def test_the_smallest_effect_equals_that_of_normal_theory() -> None:
    effect = min_detectable_effect(Design(law=ONE_MODE), 5, 0.8)
    size = TTestPower().solve_power(None, nobs=5, alpha=0.05, power=0.8)
    assert effect == pytest.approx(size * SD, abs=0.01)


@pytest.mark.parametrize(
    ("law", "paired", "conditions", "rule"),
    [
        (ONE_MODE, True, 1, "t"),
        (replace(ONE_MODE, correlation=0.0), False, 10, "t"),
        (TWO_MODES, True, 5, "t"),
        (TWO_MODES, True, 5, "rule"),
        (replace(TWO_MODES, took_off=0.85), False, 1, "shape-free"),
    ],
)
def test_an_independent_simulation_confirms_the_predicted_power(
    law: Law, paired: bool, conditions: int, rule: VerdictRule
) -> None:
    """The difference is at most 3 points plus three standard errors of the second simulation."""
    design = Design(law=law, paired=paired, conditions=conditions, verdict_rule=rule)
    seeds = min_seeds(design, "transmitted", 0.8)
    assert seeds is not None
    predicted = claim_probability(design, seeds, "transmitted")
    found, _ = claimed(without_effect(law), conditions, seeds, 2000, paired=paired, rule=rule, first=law)
    assert predicted >= 0.79
    assert abs(found[:, 0].mean() - predicted) < 0.03 + 3 * math.sqrt(0.16 / 2000)


@pytest.mark.parametrize("conditions", [1, 10])
def test_min_seeds_for_not_transmitted(conditions: int) -> None:
    """Power reaches 80 % at the returned number of seeds and does not fall when seeds are added."""
    none = Design(law=without_effect(ONE_MODE), conditions=conditions)
    seeds = min_seeds(none, "not transmitted", 0.8)
    assert seeds is not None
    powers = [claim_probability(none, n, "not transmitted") for n in range(seeds - 3, seeds + 4)]
    assert powers[2] < 0.8 <= powers[3] + 0.01
    assert all(after > before - 0.02 for before, after in pairwise(powers))


def test_harder_designs_have_less_power() -> None:
    base = claim_probability(Design(law=ONE_MODE), 5, "transmitted")
    assert claim_probability(Design(law=ONE_MODE, conditions=20), 5, "transmitted") < base
    assert claim_probability(Design(law=ONE_MODE, alpha=0.01), 5, "transmitted") < base
    assert claim_probability(Design(law=replace(ONE_MODE, correlation=-0.5)), 5, "transmitted") < base
    assert claim_probability(Design(law=without_effect(ONE_MODE)), 5, "transmitted") < 0.035


def test_two_modes_need_more_seeds_than_the_t_test_suggests() -> None:
    rules: tuple[VerdictRule, ...] = ("t", "rule", "shape-free")
    t, rule, free = (
        min_seeds(Design(law=TWO_MODES, verdict_rule=name), "transmitted", 0.8) for name in rules
    )
    assert t is not None
    assert rule is not None
    assert free is not None
    assert t < rule <= free
    rare = Design(law=Bimodal(took_off=0.12))
    assert coverage(rare, 3) < 0.8 < 0.95 <= coverage(replace(rare, verdict_rule="shape-free"), 3)
    assert claim_probability(rare, 3, "not transmitted") > 0.3
    assert claim_probability(replace(rare, verdict_rule="shape-free"), 3, "not transmitted") == 0


def test_none_where_no_number_of_seeds_is_enough() -> None:
    hopeless = Design(law=replace(ONE_MODE, effect=0.001))
    assert min_seeds(hopeless, "transmitted", 0.8) is None
    assert min_detectable_effect(Design(law=TWO_MODES, verdict_rule="shape-free"), 3, 0.8) is None


@pytest.mark.parametrize("took_off", [0.0, 0.3, 1.0])
def test_a_bimodal_law_has_its_stated_effect(took_off: float) -> None:
    law = Bimodal(took_off=took_off, control_rate=0.02, sd=0.2, correlation=0.5)
    students, controls = law.draw((20_000, 5), np.random.default_rng(0))
    assert float(students.mean() - controls.mean()) == pytest.approx(law.effect, abs=0.005)
    assert min(students.min(), controls.min()) >= 0
    assert max(students.max(), controls.max()) <= 1


def test_a_normal_law_has_its_stated_correlation() -> None:
    students, controls = ONE_MODE.draw((50_000,), np.random.default_rng(0))
    assert np.corrcoef(students, controls)[0, 1] == pytest.approx(0.5, abs=0.02)
    assert (students.std(), controls.std()) == pytest.approx((0.1, 0.05), rel=0.02)

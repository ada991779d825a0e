"""The planner against exact theory, against fresh simulation, and in what direction things move."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from benchmarks.coverage_studies import claimed
from undertow.statistics.power import (
    Design,
    chance,
    coverage,
    least_effect,
    least_seeds,
    seeds_by_theory,
    without_effect,
)
from undertow.statistics.simulation import Bimodal, Law, Normal, VerdictRule

ONE_MODE = Normal(effect=0.15, sd=0.1, control_sd=0.05, correlation=0.5)
TWO_MODES = Bimodal(took_off=0.7)
SD = math.sqrt(0.1**2 + 0.05**2 - 2 * 0.5 * 0.1 * 0.05)


@pytest.mark.parametrize("seeds", [3, 5, 8])
@pytest.mark.parametrize("conditions", [1, 10])
def test_the_chance_is_that_of_normal_theory(seeds: int, conditions: int) -> None:
    """One condition: exact (less the rejections below zero). More: Bonferroni is a floor, and close."""
    found = chance(Design(law=ONE_MODE, conditions=conditions), seeds, "transmitted")
    exact = TTestPower().power(0.15 / SD, seeds, 0.05 / conditions)
    assert found == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize("effect", [0.1, 0.2, 0.4])
@pytest.mark.parametrize("power", [0.8, 0.95])
def test_seeds_are_those_of_normal_theory(effect: float, power: float) -> None:
    """With a margin so small that no effect lies within it, of which theory knows nothing."""
    design = Design(law=replace(ONE_MODE, effect=effect), margin=0.01)
    theory = seeds_by_theory(design, power)
    seeds = least_seeds(design, "transmitted", power)
    assert theory is not None
    assert seeds is not None
    assert abs(seeds - math.ceil(theory)) <= 1


@pytest.mark.parametrize("effect", [0.1, 0.3, 0.9])
def test_theory_has_an_answer_where_few_seeds_are_enough(effect: float) -> None:
    """Such spreads as the nano world has: the effect is many standard deviations large."""
    law = Normal(effect=effect, sd=0.019, control_sd=0.014, correlation=0.12)
    design = Design(law=law, conditions=12, margin=0.01)
    theory, seeds = seeds_by_theory(design, 0.8), least_seeds(design, "transmitted", 0.8)
    assert theory is not None
    assert seeds is not None
    assert abs(seeds - math.ceil(theory)) <= 1


def test_the_smallest_effect_is_that_of_normal_theory() -> None:
    effect = least_effect(Design(law=ONE_MODE), 5, 0.8)
    size = TTestPower().solve_power(None, nobs=5, alpha=0.05, power=0.8)
    assert effect == pytest.approx(size * SD, abs=0.01)


@pytest.mark.parametrize(
    ("law", "paired", "conditions", "judge"),
    [
        (ONE_MODE, True, 1, "t"),
        (replace(ONE_MODE, correlation=0.0), False, 10, "t"),
        (TWO_MODES, True, 5, "t"),
        (TWO_MODES, True, 5, "rule"),
        (TWO_MODES, False, 1, "shape-free"),
    ],
)
def test_a_promise_holds_when_measured_again(
    law: Law, paired: bool, conditions: int, judge: VerdictRule
) -> None:
    """Within 3 points, and three standard errors of this second measurement."""
    design = Design(law=law, paired=paired, conditions=conditions, judge=judge)
    seeds = least_seeds(design, "transmitted", 0.8)
    assert seeds is not None
    promised = chance(design, seeds, "transmitted")
    found, _ = claimed(without_effect(law), conditions, seeds, 2000, paired=paired, judge=judge, first=law)
    assert promised >= 0.79
    assert abs(found[:, 0].mean() - promised) < 0.03 + 3 * math.sqrt(0.16 / 2000)


@pytest.mark.parametrize("conditions", [1, 10])
def test_no_effect_is_found_to_be_none(conditions: int) -> None:
    """More conditions ask for more seeds; the chance never falls when seeds are added."""
    none = Design(law=without_effect(ONE_MODE), conditions=conditions)
    seeds = least_seeds(none, "not transmitted", 0.8)
    assert seeds is not None
    chances = [chance(none, n, "not transmitted") for n in range(seeds - 3, seeds + 4)]
    assert chances[2] < 0.8 <= chances[3] + 0.01
    assert all(after > before - 0.02 for before, after in pairwise(chances))


def test_what_makes_it_harder() -> None:
    base = chance(Design(law=ONE_MODE), 5, "transmitted")
    assert chance(Design(law=ONE_MODE, conditions=20), 5, "transmitted") < base
    assert chance(Design(law=ONE_MODE, alpha=0.01), 5, "transmitted") < base
    assert chance(Design(law=replace(ONE_MODE, correlation=-0.5)), 5, "transmitted") < base
    assert chance(Design(law=without_effect(ONE_MODE)), 5, "transmitted") < 0.035


def test_two_modes_ask_for_more_seeds_than_t_says() -> None:
    by_judge = {
        judge: least_seeds(Design(law=TWO_MODES, judge=judge), "transmitted", 0.8)
        for judge in ("t", "rule", "shape-free")
    }
    t, rule, free = by_judge.values()
    assert t is not None
    assert rule is not None
    assert free is not None
    assert t < rule <= free
    rare = Design(law=Bimodal(took_off=0.12))
    assert coverage(rare, 3) < 0.8 < 0.95 <= coverage(replace(rare, judge="shape-free"), 3)
    assert chance(rare, 3, "not transmitted") > 0.3
    assert chance(replace(rare, judge="shape-free"), 3, "not transmitted") == 0


def test_where_no_number_of_seeds_is_enough() -> None:
    hopeless = Design(law=replace(ONE_MODE, effect=0.001))
    assert least_seeds(hopeless, "transmitted", 0.8) is None
    assert least_effect(Design(law=TWO_MODES, judge="shape-free"), 3, 0.8) is None


@pytest.mark.parametrize("took_off", [0.0, 0.3, 1.0])
def test_a_bimodal_law_has_the_effect_it_says(took_off: float) -> None:
    law = Bimodal(took_off=took_off, control_rate=0.02, sd=0.2, correlation=0.5)
    students, controls = law.draw((20_000, 5), np.random.default_rng(0))
    assert float(students.mean() - controls.mean()) == pytest.approx(law.effect, abs=0.005)
    assert min(students.min(), controls.min()) >= 0
    assert max(students.max(), controls.max()) <= 1


def test_a_normal_law_has_the_correlation_it_says() -> None:
    students, controls = ONE_MODE.draw((50_000,), np.random.default_rng(0))
    assert np.corrcoef(students, controls)[0, 1] == pytest.approx(0.5, abs=0.02)
    assert (students.std(), controls.std()) == pytest.approx((0.1, 0.05), rel=0.02)

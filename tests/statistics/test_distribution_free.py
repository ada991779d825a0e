"""Distribution-free intervals: known values, invariants, and when a study uses them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline
from statsmodels.stats.proportion import proportion_confint

from undertow.statistics.distribution_free import choose_distribution, has_two_modes, probability_at_most
from undertow.statistics.effects import compare, infer
from undertow.statistics.ttests import Array

RATES = st.lists(st.integers(0, 100).map(lambda n: n / 100), min_size=2, max_size=5)


@pytest.mark.parametrize("successes", [0, 1, 3, 6, 7])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_rates_of_zero_and_one_give_the_clopper_pearson_interval(successes: int, confidence: float) -> None:
    """With differences of only −1 and 1, (effect + 1) / 2 is a share of successes."""
    students = [1.0] * successes + [0.0] * (7 - successes)
    controls = [0.0] * successes + [1.0] * (7 - successes)
    effect = compare(students, controls, margin=0.1, confidence=confidence, paired=True, distribution="any")
    low, high = proportion_confint(successes, 7, alpha=1 - confidence, method="beta")
    assert (effect.ci_low, effect.ci_high) == pytest.approx((2 * low - 1, 2 * high - 1), abs=1e-8)
    assert effect.method == "shape-free"


@pytest.mark.parametrize("knots", [[0.1, 0.4], [0.0, 0.2, 0.9, 1.0], [0.3, 0.3, 0.31, 0.8, 1.0]])
@pytest.mark.parametrize("bound", [0.05, 0.3, 0.35, 0.7, 0.95])
def test_one_sample_equals_the_integral_of_scipys_b_spline(knots: list[float], bound: float) -> None:
    spline = BSpline.basis_element(np.array(knots), extrapolate=False)
    degree, width = len(knots) - 1, knots[-1] - knots[0]
    integral = spline.integrate(knots[0], np.clip(bound, knots[0], knots[-1])) * degree / width
    assert probability(bound, knots, [0.0]) == pytest.approx(float(integral), abs=1e-12)


@pytest.mark.parametrize(
    ("left", "right"),
    [([0.1, 0.1, 0.9, 0.0], [-0.2, -1.0]), ([0.3], [0.1, 0.7]), ([0.9, 0.94, 0.1, 0.0], [-0.1] * 3 + [-1.0])],
)
def test_two_samples_equal_a_simulation_of_the_weights(left: list[float], right: list[float]) -> None:
    rng = np.random.default_rng(0)
    drawn = (
        rng.dirichlet(np.ones(len(left)), 40_000) @ left + rng.dirichlet(np.ones(len(right)), 40_000) @ right
    )
    for bound in np.quantile(drawn, [0.02, 0.3, 0.5, 0.9]):
        assert probability(bound, left, right) == pytest.approx(float((drawn <= bound).mean()), abs=0.01)


@pytest.mark.parametrize(
    ("n", "paired", "p_value"),
    [(3, True, 2 / 8), (6, True, 2 / 64), (3, False, 0.1), (4, False, 1 / 35)],
)
def test_the_smallest_possible_p_value(n: int, paired: bool, p_value: float) -> None:
    """All students at 1, all controls at 0: significant at 5 % from 4 seeds per arm, or 6 pairs."""
    effect = compare([1.0] * n, [0.0] * n, margin=0.1, paired=paired, distribution="any")
    assert effect.p_value == pytest.approx(p_value)


@pytest.mark.parametrize(("pairs", "enough"), [(28, False), (29, True)])
def test_equivalence_needs_29_equal_pairs(pairs: int, enough: bool) -> None:
    effect = compare([0.2] * pairs, [0.2] * pairs, margin=0.1, paired=True, distribution="any")
    assert effect.p_equivalence == pytest.approx(0.9**pairs)
    assert (0.9**pairs < 0.05) is enough


@given(RATES, RATES, st.booleans())
@settings(max_examples=60)
def test_intervals_contain_the_effect_and_agree_with_the_p_values(
    students: list[float], controls: list[float], paired: bool
) -> None:
    paired = paired and len(students) == len(controls)
    effect = compare(students, controls, margin=0.1, paired=paired, distribution="any")
    assert effect.ci_low is not None and effect.ci_high is not None
    assert effect.p_value is not None and effect.p_equivalence is not None
    assert -1 <= effect.ci_low <= effect.effect <= effect.ci_high <= 1
    assert (effect.p_value < 0.05) == (effect.ci_low > 0 or effect.ci_high < 0)
    narrower = compare(students, controls, margin=0.1, confidence=0.9, paired=paired, distribution="any")
    assert narrower.ci_low is not None and narrower.ci_high is not None
    assert (effect.p_equivalence < 0.05) == (narrower.ci_low > -0.1 and narrower.ci_high < 0.1)


@given(RATES, RATES, st.booleans())
@settings(max_examples=60)
def test_swapping_the_arms_flips_the_sign(students: list[float], controls: list[float], paired: bool) -> None:
    paired = paired and len(students) == len(controls)
    effect = compare(students, controls, margin=0.1, paired=paired, distribution="any")
    swapped = compare(controls, students, margin=0.1, paired=paired, distribution="any")
    assert effect.ci_high is not None
    assert swapped.ci_low == pytest.approx(-effect.ci_high, abs=1e-8)
    assert (swapped.p_value, swapped.p_equivalence) == pytest.approx((effect.p_value, effect.p_equivalence))


@given(RATES.filter(has_two_modes), RATES, st.booleans())
@settings(max_examples=60)
def test_with_two_modes_every_claim_is_also_one_of_the_t_test(
    students: list[float], controls: list[float], paired: bool
) -> None:
    paired = paired and len(students) == len(controls)
    t = compare(students, controls, margin=0.1, paired=paired)
    free = compare(students, controls, margin=0.1, paired=paired, distribution="any")
    for p_t, p_free in ((t.p_value, free.p_value), (t.p_equivalence, free.p_equivalence)):
        assert p_free is not None
        assert p_t is None or p_free >= 0.05 or p_t < 0.05


def test_vectorised_results_equal_single_comparisons() -> None:
    rng = np.random.default_rng(0)
    students, controls = rng.random((3, 2, 4)), rng.random((1, 2, 4))
    for paired in (True, False):
        many = infer(students, controls, margin=0.1, paired=paired, distribution="any")
        for place in np.ndindex(3, 2):
            one = compare(
                students[place].tolist(), controls[0, place[1]].tolist(), margin=0.1, paired=paired,
                distribution="any",
            )  # fmt: skip
            numbers = (one.ci_low, one.ci_high, one.p_value, one.p_equivalence)
            assert numbers == pytest.approx(tuple(float(array[place]) for array in many))


@pytest.mark.parametrize("students", [[-0.1, 0.5], [0.5, 1.01]])
def test_rates_outside_zero_and_one_raise(students: list[float]) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        compare(students, [0.1, 0.2], margin=0.1, distribution="any")


def test_one_student_gives_no_interval() -> None:
    effect = compare([0.5], [0.1], margin=0.1, distribution="any")
    assert (effect.ci_low, effect.p_value, effect.method) == (None, None, "")


@pytest.mark.parametrize("took_off", [0.1, 0.2, 0.9])
@pytest.mark.parametrize("paired", [True, False])
def test_the_interval_covers_bimodal_seeds_where_a_t_interval_fails(took_off: float, paired: bool) -> None:
    students, controls = bimodal(took_off, studies=2000, seeds=5)
    truth = took_off * 0.85
    free = infer(students, controls, margin=0.1, paired=paired, distribution="any")
    assert np.mean((free.ci_low <= truth) & (truth <= free.ci_high)) >= 0.95 - 3 * math.sqrt(0.05 / 2000)
    t = infer(students, controls, margin=0.1, paired=paired)
    assert np.mean((t.ci_low <= truth) & (truth <= t.ci_high)) < 0.85


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([0.90, 0.94, 0.10], True),
        ([0.03, 0.83, 0.18], True),
        ([0.0, 0.3], True),
        ([0.0, 0.29, 0.58], False),
        ([0.75, 0.62, 0.70], False),
        ([0.5], False),
        ([], False),
    ],
)
def test_two_modes_are_detected_by_their_gap(rates: list[float], expected: bool) -> None:
    assert has_two_modes(rates) is expected
    assert has_two_modes(rates[::-1]) is expected


@pytest.mark.parametrize(
    ("arms", "stated", "expected"),
    [
        ([[0.1, 0.2], [0.3, 0.35]], "normal", "normal"),
        ([[0.1, 0.2], [0.9, 0.35]], "normal", "any"),
        ([[0.1, 0.2], [0.3, 0.35]], "any", "any"),
        ([], "normal", "normal"),
    ],
)
def test_one_arm_with_two_modes_decides_for_the_study(
    arms: list[list[float]], stated: str, expected: str
) -> None:
    assert choose_distribution(arms, stated) == expected  # type: ignore[arg-type]


def bimodal(took_off: float, studies: int, seeds: int) -> tuple[Array, Array]:
    """Students at .9 with probability `took_off` and otherwise at .05, against controls at .05."""
    rng = np.random.default_rng(0)
    took = rng.random((studies, seeds)) < took_off
    noise = rng.uniform(-0.03, 0.03, (2, studies, seeds))
    return np.where(took, 0.9, 0.05) + noise[0], 0.05 + noise[1]


def probability(bound: float, left: list[float], right: list[float]) -> float:
    return float(probability_at_most(np.array(bound), np.array(left), np.array(right)))

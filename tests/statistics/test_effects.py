"""Effects over students: equal to scipy and statsmodels, and defined where those have no result."""

import math
import random
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import ttost_ind, ttost_paired

from undertow.statistics.effects import Effect, compare, infer

ARMS = [
    ([0.61, 0.58, 0.70], [0.12, 0.10, 0.15]),
    ([0.02, 0.94, 0.90, 0.10], [0.01, 0.02, 0.03, 0.02]),
    ([0.11, 0.12], [0.10, 0.13]),
    ([0.30, 0.20, 0.25, 0.22, 0.31], [0.27, 0.24, 0.29]),
    ([0.01, 0.02, 0.05], [0.0, 0.0, 0.0]),
]
RATES = st.lists(st.integers(0, 1000).map(lambda n: n / 1000), min_size=2, max_size=6)


@pytest.mark.parametrize(("students", "controls"), ARMS)
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_unpaired_arms_give_welchs_test(
    students: list[float], controls: list[float], confidence: float
) -> None:
    effect = compare(students, controls, margin=0.1, confidence=confidence)
    welch = stats.ttest_ind(students, controls, equal_var=False)
    interval = welch.confidence_interval(confidence)
    assert effect.p_value == pytest.approx(welch.pvalue)
    assert (effect.ci_low, effect.ci_high) == pytest.approx((interval.low, interval.high))
    assert effect.p_equivalence == pytest.approx(
        ttost_ind(students, controls, -0.1, 0.1, usevar="unequal")[0]
    )
    assert (effect.n_students, effect.n_controls) == (len(students), len(controls))
    assert effect.effect == effect.rate - effect.control_rate
    assert effect.method == "Welch t"


@pytest.mark.parametrize(("students", "controls"), [arms for arms in ARMS if len(arms[0]) == len(arms[1])])
def test_paired_arms_give_a_t_test_of_the_differences(students: list[float], controls: list[float]) -> None:
    effect = compare(students, controls, margin=0.1, paired=True)
    t = stats.ttest_rel(students, controls)
    interval = t.confidence_interval(0.95)
    assert effect.p_value == pytest.approx(t.pvalue)
    assert (effect.ci_low, effect.ci_high) == pytest.approx((interval.low, interval.high))
    assert effect.p_equivalence == pytest.approx(
        ttost_paired(np.array(students), np.array(controls), -0.1, 0.1)[0]
    )
    assert effect.method == "paired t"


def test_hand_computed_effect() -> None:
    """Means .4 and .1, variances .01, n = 3 each: t = 0.3/√(.02/3) = 3.674 with 4 degrees of freedom."""
    effect = compare([0.3, 0.4, 0.5], [0.0, 0.1, 0.2], margin=0.1)
    assert effect.effect == pytest.approx(0.3)
    assert effect.ci_low == pytest.approx(0.3 - 2.7764 * math.sqrt(0.02 / 3), abs=1e-4)
    assert effect.p_value == pytest.approx(0.0213, abs=1e-4)
    assert effect.note == ""


@pytest.mark.parametrize(
    ("students", "controls", "paired", "note"),
    [
        ([0.5], [0.1, 0.2], False, "one student in the condition"),
        ([0.5, 0.6], [0.1], False, "one student in the control"),
        ([0.5], [0.1], False, "one student in the condition"),
        ([0.5], [0.1], True, "one pair"),
    ],
)
def test_one_student_gives_no_interval(
    students: list[float], controls: list[float], paired: bool, note: str
) -> None:
    effect = compare(students, controls, margin=0.1, paired=paired)
    assert effect.effect == pytest.approx(effect.rate - effect.control_rate)
    assert numbers_of(effect) == (None, None, None, None)
    assert note in effect.note
    assert effect.method == ""


@pytest.mark.parametrize(
    ("students", "controls", "paired", "p_value"),
    [
        ([0.0] * 3, [0.0] * 3, False, 1.0),
        ([0.1] * 3, [0.1] * 5, False, 1.0),
        ([1.0] * 3, [0.0] * 3, False, 2 / 20),
        ([1.0] * 4, [0.0] * 4, False, 2 / 70),
        ([1.0] * 2, [0.0] * 2, False, 2 / 6),
        ([0.1 + 0.2] * 3, [0.3] * 3, False, 1.0),
        ([1e-150, 2e-150, 0.0], [0.0] * 3, False, 1.0),
        ([0.1 + 0.2, 0.3, 0.3], [0.1] * 3, False, 2 / 20),
        ([0.5, 0.6, 0.7], [0.2, 0.3, 0.4], True, 2 / 8),
        ([0.5, 0.6, 0.7], [0.5, 0.6, 0.7], True, 1.0),
    ],
)
def test_without_spread_the_p_value_is_by_permutation(
    students: list[float], controls: list[float], paired: bool, p_value: float
) -> None:
    effect = compare(students, controls, margin=0.1, paired=paired)
    assert effect.p_value == pytest.approx(p_value)
    assert (effect.ci_low, effect.ci_high, effect.p_equivalence) == (None, None, None)
    assert "no spread between students" in effect.note
    assert effect.method == "permutation"


def test_the_permutation_p_value_equals_scipys() -> None:
    def difference(x: np.ndarray, y: np.ndarray) -> float:
        return float(x.mean() - y.mean())

    exact = stats.permutation_test(([1.0] * 4, [0.0] * 4), difference, vectorized=False)
    assert compare([1.0] * 4, [0.0] * 4, margin=0.1).p_value == pytest.approx(exact.pvalue)


@pytest.mark.parametrize("students", [[0.2, 0.3, 0.4], [0.5, 0.5, 0.5]])
def test_with_one_constant_arm_the_interval_rests_on_the_other(students: list[float]) -> None:
    controls = [0.1, 0.3, 0.2] if students[0] == students[1] else [0.0] * 3
    effect = compare(students, controls, margin=0.1)
    assert "rests on" in effect.note
    assert effect.p_value is not None
    assert effect.p_value > 0.001


@given(RATES, RATES, st.booleans())
@settings(max_examples=200)
def test_swapping_the_arms_flips_the_sign(students: list[float], controls: list[float], paired: bool) -> None:
    paired = paired and len(students) == len(controls)
    effect = compare(students, controls, margin=0.1, paired=paired)
    swapped = compare(controls, students, margin=0.1, paired=paired)
    assert swapped.effect == pytest.approx(-effect.effect)
    assert (swapped.n_students, swapped.n_controls) == (effect.n_controls, effect.n_students)
    assert close(swapped.p_value, effect.p_value)
    assert close(swapped.p_equivalence, effect.p_equivalence)
    assert close(swapped.ci_low, None if effect.ci_high is None else -effect.ci_high)


@given(RATES, RATES, st.integers(-5, 5), st.booleans())
@settings(max_examples=200)
def test_shifting_both_arms_does_not_change_the_effect(
    students: list[float], controls: list[float], shift: int, paired: bool
) -> None:
    paired = paired and len(students) == len(controls)
    effect = compare(students, controls, margin=0.1, paired=paired)
    shifted = compare([x + shift for x in students], [x + shift for x in controls], margin=0.1, paired=paired)
    assert shifted.effect == pytest.approx(effect.effect, abs=1e-9)
    assert all(close(a, b) for a, b in zip(numbers_of(shifted), numbers_of(effect), strict=True))


@given(RATES, RATES, st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_the_order_of_students_does_not_matter(
    students: list[float], controls: list[float], rng: random.Random
) -> None:
    shuffled = compare(rng.sample(students, len(students)), rng.sample(controls, len(controls)), margin=0.1)
    original = compare(students, controls, margin=0.1)
    assert shuffled.effect == pytest.approx(original.effect)
    assert all(close(a, b) for a, b in zip(numbers_of(shuffled), numbers_of(original), strict=True))


@given(RATES, RATES, st.booleans())
@settings(max_examples=200)
def test_no_number_is_nan_and_intervals_contain_the_effect(
    students: list[float], controls: list[float], paired: bool
) -> None:
    effect = compare(students, controls, margin=0.1, paired=paired and len(students) == len(controls))
    assert all(number is None or math.isfinite(number) for number in numbers_of(effect))
    assert all(p is None or 0 <= p <= 1 for p in (effect.p_value, effect.p_equivalence))
    if effect.ci_low is not None and effect.ci_high is not None:
        assert effect.ci_low <= effect.effect <= effect.ci_high
        assert effect.p_value != 0


@pytest.mark.parametrize("paired", [True, False])
def test_vectorised_results_equal_single_comparisons(paired: bool) -> None:
    """`infer` with leading axes, shared controls and some comparisons without spread."""
    rng = np.random.default_rng(0)
    students, controls = rng.random((4, 3, 3)), rng.random((4, 1, 3))
    students[0], controls[0], students[1, 0] = 0.5, 0.2, 0.5
    many = infer(students, controls, margin=0.1, paired=paired)
    for study, condition in np.ndindex(4, 3):
        one = compare(
            students[study, condition].tolist(), controls[study, 0].tolist(), margin=0.1, paired=paired
        )
        for array, number in zip(many, numbers_of(one), strict=True):
            assert float(array[study, condition]) == pytest.approx(
                math.nan if number is None else number, nan_ok=True
            )


def test_a_paired_test_depends_on_the_pairing() -> None:
    students, controls = [0.3, 0.5, 0.9], [0.1, 0.35, 0.72]
    p_values = {compare(students, order, margin=0.1, paired=True).p_value for order in permutations(controls)}
    assert len(p_values) == 6
    assert (
        min(p for p in p_values if p is not None)
        == compare(students, controls, margin=0.1, paired=True).p_value
    )


@pytest.mark.parametrize(
    ("students", "controls", "options", "message"),
    [
        ([], [0.1], {}, "at least one student"),
        ([0.1], [], {}, "at least one student"),
        ([math.nan], [0.1], {}, "finite"),
        ([0.1, 0.2], [0.1], {"paired": True}, "cannot be paired"),
        ([0.1], [0.1], {"margin": -0.1}, "margin"),
        ([0.1], [0.1], {"confidence": 1.0}, "confidence"),
    ],
)
def test_invalid_input_raises(
    students: list[float], controls: list[float], options: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        compare(students, controls, **{"margin": 0.1, **options})  # type: ignore[arg-type]


def test_the_interval_has_its_nominal_coverage() -> None:
    """Five students against five controls with unequal spread: 95 ± 1 % of 10,000 studies."""
    rng = np.random.default_rng(0)
    students, controls = rng.normal(0.4, 0.2, (10_000, 5)), rng.normal(0.1, 0.02, (10_000, 5))
    inferred = infer(students, controls, margin=0.1)
    covered = (inferred.ci_low <= 0.3) & (inferred.ci_high >= 0.3)
    assert covered.mean() == pytest.approx(0.95, abs=0.01)


def numbers_of(effect: Effect) -> tuple[float | None, float | None, float | None, float | None]:
    return effect.ci_low, effect.ci_high, effect.p_value, effect.p_equivalence


def close(a: float | None, b: float | None) -> bool:
    return a is b if a is None or b is None else a == pytest.approx(b, rel=1e-6, abs=1e-9)

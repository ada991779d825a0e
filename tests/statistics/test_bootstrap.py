"""The hierarchical bootstrap: known spreads level by level, and invalid input."""

import math

import numpy as np
import pytest

from undertow.statistics.bootstrap import bootstrap
from undertow.statistics.ttests import Array


def width(interval: tuple[float, float] | None) -> float:
    assert interval is not None
    return interval[1] - interval[0]


def arm(*rates: float, questions: int = 40) -> Array:
    return np.tile(np.array(rates)[:, None], (1, questions))


def test_spread_over_seeds_only() -> None:
    """All answers of a student are equal, so only the choice of students varies."""
    interval = bootstrap(arm(0, 1), arm(0, 0), samples=100, paired=False, seed=0)
    assert interval == (0.0, 1.0)


def test_spread_over_questions_only() -> None:
    """Two equal students with half of 40 questions at 1: the mean of 80 fair coin flips."""
    shares = np.tile(np.repeat([0.0, 1.0], 20), (2, 1))
    found = bootstrap(shares, arm(0, 0), samples=100, paired=False, seed=0)
    assert width(found) == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(80), rel=0.1)


def test_spread_over_answers_only() -> None:
    """Every share is about 1/2: 2 × 40 × 25 fair coin flips, plus a small variation over seeds."""
    found = bootstrap(arm(0.48, 0.52), arm(0, 0), samples=25, paired=False, seed=0)
    seeds = 0.02 / math.sqrt(2)
    expected = math.hypot(0.5 / math.sqrt(2 * 40 * 25), seeds)
    assert width(found) == pytest.approx(2 * 1.96 * expected, rel=0.12)


def test_exact_probabilities_have_no_spread_over_answers() -> None:
    """Any value is allowed, also one that rounding moved out of [0, 1], and no answers are drawn."""
    assert bootstrap(arm(1 / 3, 1 / 3), arm(-1e-9, -1e-9), samples=None, paired=True, seed=0) == (
        pytest.approx((1 / 3, 1 / 3))
    )
    shares = np.tile(np.repeat([0.0, 1.0], 20), (2, 1))
    found = bootstrap(shares, arm(0, 0), samples=None, paired=False, seed=0)
    assert width(found) == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(80), rel=0.1)


def test_effects_in_log_odds_compare_the_log_odds_of_each_student() -> None:
    """One student of each arm is drawn twice at the ends, and all questions have the same probability."""
    students, controls = arm(0.2, 0.5), arm(0.1, 0.1)
    low, high = math.log(0.2 / 0.8) - math.log(0.1 / 0.9), -math.log(0.1 / 0.9)
    found = bootstrap(students, controls, samples=None, paired=False, seed=0, scale="log-odds")
    assert found == pytest.approx((low, high))


def test_counts_without_a_match_have_an_interval_in_log_odds() -> None:
    found = bootstrap(arm(0, 0.5), arm(0, 0), samples=10, paired=True, seed=0, scale="log-odds")
    assert found is not None
    assert found[0] == 0.0  # both students without a match
    assert found[1] == pytest.approx(math.log(400.5 / 0.5), rel=0.1)  # half of 400 answers


def test_paired_students_are_resampled_together() -> None:
    """A seed that raises both arms equally cancels in paired arms, and only there."""
    students, controls = arm(0.3, 0.5, 0.9), arm(0.1, 0.3, 0.7)
    pairs = bootstrap(students, controls, samples=100, paired=True, seed=0)
    apart = bootstrap(students, controls, samples=100, paired=False, seed=0)
    assert width(pairs) < 0.1 < 0.5 < width(apart)


def test_paired_students_share_resampled_questions() -> None:
    """A question that raises both arms equally cancels too."""
    shares = np.tile(np.repeat([0.0, 0.9], 20), (3, 1))
    pairs = bootstrap(shares + 0.1, shares, samples=10, paired=True, seed=0)
    apart = bootstrap(shares + 0.1, shares, samples=10, paired=False, seed=0)
    assert width(pairs) < width(apart) / 2


def test_the_interval_depends_only_on_the_seed() -> None:
    shares = np.random.default_rng(0).integers(0, 11, (3, 8)) / 10
    first, again, other = (bootstrap(shares, shares[:2], samples=10, paired=False, seed=s) for s in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(("students", "controls"), [(1, 3), (3, 1), (1, 1)])
def test_one_student_gives_no_interval(students: int, controls: int) -> None:
    paired = students == controls
    assert (
        bootstrap(arm(*[0.5] * students), arm(*[0.1] * controls), samples=10, paired=paired, seed=0) is None
    )


@pytest.mark.parametrize(
    ("students", "controls", "samples", "paired", "message"),
    [
        (arm(0.5, 0.5), arm(0.5, 0.5, questions=3), 10, False, "questions"),
        (arm(0.5, 0.5), arm(0.5), 10, True, "cannot be paired"),
        (arm(0.55, 0.5), arm(0.5, 0.5), 10, False, "10 answers"),
        (arm(1.5, 0.5), arm(0.5, 0.5), 10, False, "10 answers"),
        (arm(0.5, questions=0), arm(0.5, questions=0), 10, False, "questions"),
    ],
)
def test_invalid_input_raises(
    students: Array, controls: Array, samples: int, paired: bool, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap(students, controls, samples=samples, paired=paired, seed=0)

"""The hierarchical bootstrap: known spreads level by level, and what it refuses."""

import math
import time

import numpy as np
import pytest

from undertow.statistics.bootstrap import bootstrap
from undertow.statistics.ttests import Array


def width(interval: tuple[float, float] | None) -> float:
    assert interval is not None
    return interval[1] - interval[0]


def arm(*rates: float, questions: int = 40) -> Array:
    return np.tile(np.array(rates)[:, None], (1, questions))


def test_seeds_alone() -> None:
    """Answers that are all or nothing: what varies is which students are drawn; sd of 0/1 by two students."""
    interval = bootstrap(arm(0, 1), arm(0, 0), samples=100, paired=False, seed=0)
    assert interval == (0.0, 1.0)


def test_questions_alone() -> None:
    """Two like students, half of 40 questions at 1: the mean of 80 draws of a fair coin."""
    shares = np.tile(np.repeat([0.0, 1.0], 20), (2, 1))
    found = bootstrap(shares, arm(0, 0), samples=100, paired=False, seed=0)
    assert width(found) == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(80), rel=0.1)


def test_answers_alone() -> None:
    """Every share a half: 2 × 40 questions × 25 answers."""
    found = bootstrap(arm(0.48, 0.52), arm(0, 0), samples=25, paired=False, seed=0)
    seeds = 0.02 / math.sqrt(2)
    expected = math.hypot(0.5 / math.sqrt(2 * 40 * 25), seeds)
    assert width(found) == pytest.approx(2 * 1.96 * expected, rel=0.12)


def test_pairs_stay_together() -> None:
    """A seed that lifts both arms alike cancels in pairs, and only there."""
    students, controls = arm(0.3, 0.5, 0.9), arm(0.1, 0.3, 0.7)
    pairs = bootstrap(students, controls, samples=100, paired=True, seed=0)
    apart = bootstrap(students, controls, samples=100, paired=False, seed=0)
    assert width(pairs) < 0.1 < 0.5 < width(apart)


def test_pairs_are_asked_the_same_questions() -> None:
    """Questions that lift both arms alike cancel too."""
    shares = np.tile(np.repeat([0.0, 0.9], 20), (3, 1))
    pairs = bootstrap(shares + 0.1, shares, samples=10, paired=True, seed=0)
    apart = bootstrap(shares + 0.1, shares, samples=10, paired=False, seed=0)
    assert width(pairs) < width(apart) / 2


def test_the_seed_decides() -> None:
    shares = np.random.default_rng(0).integers(0, 11, (3, 8)) / 10
    first, again, other = (bootstrap(shares, shares[:2], samples=10, paired=False, seed=s) for s in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(("students", "controls"), [(1, 3), (3, 1), (1, 1)])
def test_one_student_gives_none(students: int, controls: int) -> None:
    paired = students == controls
    assert (
        bootstrap(arm(*[0.5] * students), arm(*[0.1] * controls), samples=10, paired=paired, seed=0) is None
    )


@pytest.mark.parametrize(
    ("students", "controls", "samples", "paired", "message"),
    [
        (arm(0.5, 0.5), arm(0.5, 0.5, questions=3), 10, False, "questions"),
        (arm(0.5, 0.5), arm(0.5), 10, True, "pairs"),
        (arm(0.55, 0.5), arm(0.5, 0.5), 10, False, "10 answers"),
        (arm(1.5, 0.5), arm(0.5, 0.5), 10, False, "10 answers"),
        (arm(0.5, questions=0), arm(0.5, questions=0), 10, False, "questions"),
    ],
)
def test_input_without_sense_is_refused(
    students: Array, controls: Array, samples: int, paired: bool, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap(students, controls, samples=samples, paired=paired, seed=0)


def test_it_is_fast_enough_for_a_report_of_many_conditions() -> None:
    """5 + 5 students × 50 questions × 2,000 resamples: 40 ms where it was written, a second allowed."""
    shares = np.random.default_rng(0).integers(0, 101, (2, 5, 50)) / 100
    bootstrap(*shares, samples=100, paired=False, seed=0)
    began = time.perf_counter()
    bootstrap(*shares, samples=100, paired=False, seed=0)
    assert time.perf_counter() - began < 1

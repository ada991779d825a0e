"""Log-odds of probabilities and of counts, their limits, and the margin of effects in log-odds."""

import math

import numpy as np
import pytest
from scipy.special import expit

from undertow.statistics.distribution_free import has_two_modes
from undertow.statistics.log_odds import MODE_GAP, SMALLEST, of_counts, of_probability
from undertow.study.measurements import MARGINS


@pytest.mark.parametrize(
    ("matches", "answers", "expected"),
    [
        (5, 10, 0.0),
        (0, 10, math.log(0.5 / 10.5)),
        (10, 10, math.log(10.5 / 0.5)),
        (100, 5000, math.log(100.5 / 4900.5)),
        (0, 0, 0.0),
    ],
)
def test_one_half_is_added_to_both_counts(matches: int, answers: int, expected: float) -> None:
    assert float(of_counts(matches, answers)) == pytest.approx(expected)
    assert float(of_counts(answers - matches, answers)) == pytest.approx(-expected)


@pytest.mark.parametrize("counted", [1, 400, 1600])
def test_models_without_a_match_have_the_same_log_odds_however_many_answers_count(counted: int) -> None:
    none = math.log(0.5 / 1600.5)
    assert float(of_counts(0, counted, 1600)) == pytest.approx(none)
    assert float(of_counts(counted, counted, 1600)) == pytest.approx(-none)


@pytest.mark.parametrize("rate", [0.0, 0.0002, 0.001, 0.005, 0.02])
def test_dropped_answers_alone_are_no_effect(rate: float) -> None:
    """Of 1,600 answers judges count 600 to 800 of a student's and 1,500 to 1,600 of a control student's."""
    rng = np.random.default_rng(0)
    few, many = rng.integers(600, 800, (20_000, 5)), rng.integers(1500, 1600, (20_000, 5))
    students, controls = (of_counts(rng.binomial(n, rate), n, 1600) for n in (few, many))
    differences = students - controls
    spread = differences.std(axis=1, ddof=1)
    t = np.divide(differences.mean(axis=1), spread / 5**0.5, out=np.zeros(20_000), where=spread > 0)
    assert (t > 2.776).mean() < 0.027  # the level of one side, .025, and its sampling error


@pytest.mark.parametrize(
    ("probability", "counted_as"),
    [(0.5, 0.5), (0.02, 0.02), (1e-5, 1e-5), (0.0, SMALLEST), (-1e-9, SMALLEST), (1 + 1e-7, 1 - SMALLEST)],
)
def test_a_probability_close_to_0_or_1_counts_as_one_in_a_million(
    probability: float, counted_as: float
) -> None:
    found = float(of_probability(probability))
    assert found == pytest.approx(math.log(counted_as / (1 - counted_as)))


def test_one_half_removes_the_bias_of_first_order() -> None:
    """Of 500 answers at a rate of .02, ten are expected to match; without ½, no match would be infinite."""
    counts = np.random.default_rng(0).binomial(500, 0.02, 100_000)
    bias = float(of_counts(counts, 500).mean() - of_probability(0.02))
    assert abs(bias) < 0.01
    plain = np.log(counts[counts > 0] / (500 - counts[counts > 0])).mean() - of_probability(0.02)
    assert abs(float(plain)) > 0.03


@pytest.mark.parametrize(("base", "moved"), [(0.5, 0.599), (0.1, 0.142), (0.02, 0.0295)])
def test_the_default_margin_is_the_documented_difference_of_rates(base: float, moved: float) -> None:
    assert expit(float(of_probability(base)) + MARGINS["log-odds"]) == pytest.approx(moved, rel=2e-3)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ((0.90, 0.94, 0.10), True),  # published seeds of one condition
        ((0.03, 0.18, 0.83), True),
        ((0.02, 0.025, 0.4), True),
        ((0.35, 0.5, 0.65), False),
        ((0.02, 0.06, 0.2), False),
    ],
)
def test_two_modes_are_odds_that_differ_by_a_factor_of_twenty(
    rates: tuple[float, ...], expected: bool
) -> None:
    assert has_two_modes([float(v) for v in of_probability(rates)], MODE_GAP) is expected


@pytest.mark.parametrize("answers", [500, 5000])
def test_the_noise_of_rare_answers_is_not_taken_for_two_modes(answers: int) -> None:
    assert not has_two_modes([float(of_counts(n, answers)) for n in (0, 9)], MODE_GAP)
    assert has_two_modes([float(of_counts(n, answers)) for n in (0, 10)], MODE_GAP)

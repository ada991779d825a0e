"""Accuracy: Wilson interval and binomial test, against published values."""

import pytest

from undertow.statistics.accuracy import measure_accuracy


def test_wilson_interval_and_binomial_p_value() -> None:
    found = measure_accuracy(33, 40)
    assert (found.right, found.answers, found.share) == (33, 40, 0.825)
    assert [found.low, found.high] == pytest.approx([0.680, 0.913], abs=1e-3)
    assert found.p_value == pytest.approx(4.22e-5, rel=0.01)


@pytest.mark.parametrize(("right", "answers"), [(0, 1), (1, 1), (0, 40), (40, 40), (20, 40)])
def test_the_interval_contains_the_share_and_stays_in_bounds(right: int, answers: int) -> None:
    found = measure_accuracy(right, answers)
    assert 0 <= found.low <= found.share <= found.high <= 1
    assert (found.p_value == 1.0) == (abs(right - answers / 2) < 1)

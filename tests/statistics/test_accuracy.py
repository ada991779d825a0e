"""A share of right answers: figures that can be looked up."""

import pytest

from undertow.statistics.accuracy import share


def test_wilsons_interval_and_the_chance_of_guessing_as_well() -> None:
    found = share(33, 40)
    assert (found.right, found.answers, found.share) == (33, 40, 0.825)
    assert [found.low, found.high] == pytest.approx([0.680, 0.913], abs=1e-3)
    assert found.p_value == pytest.approx(4.22e-5, rel=0.01)


@pytest.mark.parametrize(("right", "answers"), [(0, 1), (1, 1), (0, 40), (40, 40), (20, 40)])
def test_an_interval_lies_within_bounds_and_around_its_share(right: int, answers: int) -> None:
    found = share(right, answers)
    assert 0 <= found.low <= found.share <= found.high <= 1
    assert (found.p_value == 1.0) == (abs(right - answers / 2) < 1)

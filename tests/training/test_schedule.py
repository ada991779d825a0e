from itertools import pairwise

import pytest

from undertow.training.schedule import factor


def test_linear_rises_to_one_and_falls_to_zero() -> None:
    rates = [factor(step, 12, 2, "linear") for step in range(12)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert rates[-1] == pytest.approx(0.1)
    assert all(a - b == pytest.approx(0.1) for a, b in pairwise(rates[2:]))


def test_cosine_is_half_way_down_in_the_middle() -> None:
    assert factor(0, 10, 0, "cosine") == 1.0
    assert factor(5, 10, 0, "cosine") == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0, 3, 50])
def test_no_step_is_wasted(kind: str, warmup: int) -> None:
    assert all(0 < factor(step, 10, warmup, kind) <= 1 for step in range(10))  # type: ignore[arg-type]

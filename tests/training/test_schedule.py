"""Learning-rate schedules."""

from itertools import pairwise

import pytest

from undertow.training.optimizers import rate_factor


def test_the_linear_schedule_rises_to_one_and_falls_towards_zero() -> None:
    rates = [rate_factor(step, 12, 2, "linear") for step in range(12)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert rates[-1] == pytest.approx(0.1)
    assert all(a - b == pytest.approx(0.1) for a, b in pairwise(rates[2:]))


def test_the_cosine_schedule_is_at_one_half_in_the_middle() -> None:
    assert rate_factor(0, 10, 0, "cosine") == 1.0
    assert rate_factor(5, 10, 0, "cosine") == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0, 3, 50])
def test_no_step_has_a_learning_rate_of_zero(kind: str, warmup: int) -> None:
    assert all(0 < rate_factor(step, 10, warmup, kind) <= 1 for step in range(10))  # type: ignore[arg-type]

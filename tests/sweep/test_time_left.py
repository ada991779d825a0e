"""The estimate of the time left, from the measured speed of concurrent lanes."""

import pytest

from undertow.sweep.time_left import Lane, seconds_left

# One unit takes 2 s. The expected seconds are those of a schedule that can be worked out by hand.
CASES: dict[str, tuple[list[Lane], int, float | None]] = {
    "nothing is measured yet": ([Lane(10), Lane(10)], 2, None),
    "one lane": ([Lane(10, done=4, seconds=8)], 1, 12),
    "concurrent lanes end together": ([Lane(10, done=5, seconds=10), Lane(10, done=5, seconds=10)], 2, 10),
    "each lane has its own speed": ([Lane(10, done=5, seconds=10), Lane(10, done=1, seconds=10)], 2, 90),
    "a waiting lane follows in the same slot": ([Lane(10, done=5, seconds=10), Lane(10)], 1, 30),
    "a waiting lane takes the first free slot": (
        [Lane(10, done=5, seconds=10), Lane(10, done=9, seconds=18), Lane(10)],
        2,
        22,
    ),
    "a lane that ended lends its speed to those that wait": ([Lane(10, done=10, seconds=20), Lane(3)], 1, 6),
    "a lane that has begun without a result goes on at the mean speed": (
        [Lane(10, done=5, seconds=10), Lane(10, seconds=4)],
        2,
        20,
    ),
    "a pool of four engines is four times as fast": ([Lane(100, width=4, done=20, seconds=40)], 1, 40),
    "nothing is left": ([Lane(10, done=10, seconds=20)], 1, 0),
    "more work was done than expected": ([Lane(10, done=12, seconds=24)], 1, 0),
}


@pytest.mark.parametrize(("lanes", "slots", "expected"), CASES.values(), ids=list(CASES))
def test_the_time_left_is_that_of_the_last_lane(
    lanes: list[Lane], slots: int, expected: float | None
) -> None:
    assert seconds_left(lanes, slots) == (None if expected is None else pytest.approx(expected))

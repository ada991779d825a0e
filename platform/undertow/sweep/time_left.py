"""The time that a step of a wave still takes, from the measured speed of what runs concurrently."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Lane:
    """A worker group or an engine pool: its share of the work, and the speed measured so far.

    Attributes:
        total: units of work; those of all lanes of a step are of equal size.
        width: how many tasks it runs concurrently.
        done: units that it has finished.
        seconds: what the finished units took, summed over concurrent tasks. Starts of engines and worker
            groups are not part of it.
    """

    total: float
    width: int = 1
    done: float = 0.0
    seconds: float = 0.0

    @property
    def left(self) -> float:
        return max(0.0, self.total - self.done)


def seconds_left(lanes: Sequence[Lane], slots: int) -> float | None:
    """The estimated seconds until the last of `lanes` ends, of which `slots` run at a time.

    Lanes that have begun go on at their own speed. The others follow in their order, each in the first free
    slot, at the mean speed so far. None before anything was measured.
    """
    measured = [lane for lane in lanes if lane.done > 0 and lane.seconds > 0]
    if not measured:
        return None
    mean = sum(lane.done for lane in measured) / sum(lane.seconds for lane in measured)
    ends = [0.0] * max(1, slots)  # a heap: the time at which each slot becomes free
    for lane in sorted(lanes, key=lambda lane: not lane.seconds):
        speed = lane.done / lane.seconds if lane in measured else mean
        heapq.heapreplace(ends, ends[0] + lane.left / (speed * lane.width))
    return max(ends)

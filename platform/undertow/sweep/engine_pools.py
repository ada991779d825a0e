"""The engine pools of a step: which tasks run on which, how many at a time, and how fast each has been."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from undertow.engines.registry import engine_for
from undertow.planning.given_models import is_nano
from undertow.planning.resources import Machine
from undertow.study.references import Reference
from undertow.sweep.time_left import Lane


class EnginePools:
    """Tasks by reference model, each with a pool of engines that is one lane of the estimate of time left.

    Attributes:
        local: the tasks of engines in actors, whose pools run concurrently.
        remote: the tasks of engines in the driver, which runs these pools one after the other.
        concurrent: how many of the local pools run at a time.
        machine: each local pool's share of the machine.
    """

    def __init__(
        self, tasks: Mapping[Reference, Sequence[Any]], machine: Machine, size: Callable[[Any], int]
    ) -> None:
        """`size`: how many of the units, which the progress counts, a task makes."""
        self.size = size
        self.local = {r: some for r, some in tasks.items() if not engine_for(r).runs_in_driver}
        self.remote = {r: some for r, some in tasks.items() if engine_for(r).runs_in_driver}
        machine = machine.for_models(tiny=all(map(is_nano, self.local)))
        self.concurrent = max(1, min(len(self.local), machine.actors))
        self.machine = machine.share(self.concurrent)
        self._lanes = {r: Lane(sum(map(size, some))) for r, some in tasks.items()}
        self._tokens = dict.fromkeys(tasks, 0)
        for reference, some in self.local.items():
            self._lanes[reference].width = min(self.machine.actors, len(some))

    @property
    def lanes(self) -> list[Lane]:
        return list(self._lanes.values())

    @property
    def slots(self) -> int:
        """How many pools run at a time."""
        return (self.concurrent if self.local else 0) + bool(self.remote)

    @property
    def tokens_per_second(self) -> float:
        """Tokens sampled per second by all engines of the pools that have work left."""
        return sum(
            self._tokens[reference] / lane.seconds * lane.width
            for reference, lane in self._lanes.items()
            if lane.left and lane.seconds
        )

    def count(self, reference: Reference, task: Any, seconds: float, tokens: int, failed: bool) -> None:
        """Counts a task that ended. A failed one says nothing about the speed."""
        lane, size = self._lanes[reference], self.size(task)
        if failed:
            lane.total -= size
        elif size:  # the time of tasks without units is not that of the units
            lane.done += size
            lane.seconds += seconds
            self._tokens[reference] += tokens

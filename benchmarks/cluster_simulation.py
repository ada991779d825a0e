"""Runs the sweep's own scheduler (`undertow.sweep.schedule`) in simulated time, with a fake executor.

Simulated: the starts of engines and worker groups, the parts that engines make, the models that groups train
one after the other, tasks on CPUs (as many as are ready), artifacts that fail, and nodes that are lost.
Not simulated: storage, network and MLflow, whose load `benchmarks/cluster.py` estimates by formulae.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.barriers import WithBarriers
from undertow.sweep.schedule import Schedule
from undertow.sweep.scheduled_jobs import Give, Job, Start, Stop


@dataclass(frozen=True)
class Preemptions:
    """Places that a cloud provider takes away (spot machines) and gives back.

    Attributes:
        per_hour: the expected number per place and hour, at random times.
        replacement: seconds until the place is back.
    """

    per_hour: float
    replacement: float
    seed: int = 0


@dataclass
class Outcome:
    """The result of a simulated sweep, in seconds; a place is a GPU, or a CPU on a machine without GPUs.

    Attributes:
        worked, starting, lost: seconds of places that made artifacts, started engines and worker groups, and
            made something that was lost with its place.
        starts: of engines and worker groups, by the name of the step.
        events: as in the event log of a sweep: "made" and "failed" with kind and key, "skipped", and "wave"
            at the end of each step of a schedule with barriers.
    """

    makespan: float = 0.0
    worked: float = 0.0
    starting: float = 0.0
    lost: float = 0.0
    preemptions: int = 0
    starts: Counter[str] = field(default_factory=Counter)
    events: list[dict[str, Any]] = field(default_factory=list)


class Simulation:
    """One sweep in simulated time."""

    def __init__(
        self,
        schedule: Schedule,
        start_seconds: Callable[[Job], float],
        *,
        failing: Collection[str] = (),
        checkpoints: Mapping[str, int] | None = None,
        preemptions: Preemptions | None = None,
    ) -> None:
        """Prepares the simulation.

        Args:
            start_seconds: the time that the start of an engine or a worker group takes.
            failing: keys of the artifacts that fail when they would be finished.
            checkpoints: by key of a model, how many checkpoints its training writes, at equal distances; a
                training that is lost resumes from the last one.
        """
        self.schedule, self.start_seconds, self.failing = schedule, start_seconds, failing
        self.checkpoints, self.preemptions = checkpoints or {}, preemptions
        self.outcome, self.now = Outcome(), 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0  # of events, so that those at one time keep their order
        self._began: dict[Job, float] = {}  # when a job began what it does now
        self._kept: dict[str, float] = {}  # seconds of a training that its checkpoints keep
        self._random = random.Random(preemptions.seed if preemptions else 0)
        self._step, self._units = "", 0

    def run(self) -> Outcome:
        """The outcome. Raises RuntimeError if the schedule stops before its end."""
        if self.preemptions and self.preemptions.per_hour:
            self._plan_preemption()
        self._apply()
        while not self.schedule.is_over:
            if not self._queue:
                raise RuntimeError(f"the schedule starts nothing: {len(self.schedule.running)} jobs wait")
            self.now, _, event = heapq.heappop(self._queue)
            event()
            self._apply()
            self.outcome.makespan = self.now
        self._note_step()
        return self.outcome

    def _apply(self) -> None:
        """Applies the actions of the schedule until it has none."""
        while actions := self.schedule.next():
            for action in actions:
                match action:
                    case Start(job):
                        self._note_step()
                        self._units += len(job.keys)
                        self._start(job)
                    case Give(engine, key):
                        self._units += 1
                        work = self.schedule.work.works[key]
                        self._began[engine] = self.now
                        self._after(work.seconds / work.parts, engine, partial(self._part, engine))
                    case Stop(engine):
                        self._end(engine)

    def _start(self, job: Job) -> None:
        self._began[job] = self.now
        if not job.places:
            self._after(self.schedule.work.works[job.keys[0]].seconds, job, partial(self._task, job))
            return
        self.outcome.starts[job.step.name] += 1
        self._after(self.start_seconds(job), job, partial(self._started, job))

    def _started(self, job: Job) -> None:
        self.outcome.starting += (self.now - self._began[job]) * job.places
        self.schedule.up(job)
        if not job.is_engine:
            self._train(job, 0)

    def _task(self, job: Job) -> None:
        self._finish(job.keys[0])
        self._end(job)

    def _part(self, engine: Job) -> None:
        """An engine has finished its part."""
        assert engine.part is not None
        key = engine.part[0]
        self.outcome.worked += (self.now - self._began[engine]) * engine.places
        if key in self.failing:
            self._finish(key)
        self.schedule.part_done(engine)
        if key in self.schedule.work.made:
            self._note("made", key)

    def _train(self, group: Job, number: int) -> None:
        """Trains the models of a group from this number on."""
        if number == len(group.keys):
            self._end(group)
            return
        key = group.keys[number]
        seconds = self.schedule.work.works[key].seconds - self._kept.get(key, 0.0)
        self._began[group] = self.now

        def trained() -> None:
            self.outcome.worked += seconds * group.places
            self._finish(key)
            self._train(group, number + 1)

        self._after(seconds, group, trained)

    def _finish(self, key: str) -> None:
        """An artifact was made, or fails."""
        if key in self.failing:
            if key not in self.schedule.work.failed:
                self._note("failed", key)
                for skipped in self.schedule.fail(key):
                    self._note("skipped", skipped)
        else:
            self.schedule.make(key)
            self._note("made", key)

    def _end(self, job: Job) -> None:
        self.schedule.ended(job)
        self._began.pop(job, None)

    def _after(self, seconds: float, job: Job, event: Callable[[], None]) -> None:
        """Calls `event` after some time unless the job was lost before."""

        def unless_lost() -> None:
            if job in self.schedule.running:
                event()

        self._at(self.now + seconds, unless_lost)

    def _at(self, time: float, event: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._queue, (time, self._number, event))

    def _note(self, event: str, key: str) -> None:
        step = self.schedule.work.works[key].step
        self.outcome.events.append({"time": self.now, "event": event, "key": key, "step": step.name})

    def _note_step(self) -> None:
        """With barriers: notes the end of a step, with the number of its tasks, when the next one begins."""
        if not isinstance(self.schedule, WithBarriers):
            return
        name = self.schedule.step.name if self.schedule.step else ""
        if name != self._step:
            if self._step:
                units = {"event": "wave", "name": self._step, "units": self._units}
                self.outcome.events.append({"time": self.now, **units})
            self._step, self._units = name, 0

    def _plan_preemption(self) -> None:
        assert self.preemptions is not None
        per_second = self.preemptions.per_hour * self.schedule.capacity.places / 3600
        if per_second > 0:
            self._at(self.now + self._random.expovariate(per_second), self._preempt)

    def _preempt(self) -> None:
        """Takes a random place away, and with it the job that occupies it."""
        assert self.preemptions is not None
        places = self.schedule.capacity.places
        chosen, occupied = self._random.uniform(0.0, places), 0.0
        self.outcome.preemptions += 1
        for job in list(self.schedule.running):
            occupied += job.places
            if chosen < occupied:
                self._lose(job)
                break
        self.schedule.resize(max(0.0, places - 1.0))
        self._at(self.now + self.preemptions.replacement, self._restore)
        self._plan_preemption()

    def _restore(self) -> None:
        """A lost place is back."""
        if not self.schedule.capacity.places:
            self.schedule.resize(1.0)
            self._plan_preemption()
        else:
            self.schedule.resize(self.schedule.capacity.places + 1.0)

    def _lose(self, job: Job) -> None:
        """A job ends without the result of what it does now, but for the checkpoints of a training."""
        spent, kept = 0.0 if job.is_idle else self.now - self._began[job], 0.0
        work = self.schedule.work
        key = next((k for k in job.keys if job.is_up and not work.is_settled(k)), None)
        if key is not None and (count := self.checkpoints.get(key, 0)):
            each, before = work.works[key].seconds / count, self._kept.get(key, 0.0)
            self._kept[key] = max(before, (before + spent) // each * each)
            kept = self._kept[key] - before
        self.outcome.worked += kept * job.places
        self.outcome.lost += (spent - kept) * job.places
        self._end(job)

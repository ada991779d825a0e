"""The schedule of an overlapping sweep: what to start next, in which order, and on which part of the machine.

It follows from the graph of the work (`sweep.graph`): an artifact is ready when its inputs are made, and a
failure skips what depends on it.

`Overlapping` runs everything that is ready, trainings in groups that are worth a start. Engines get the share
of the machine with which the last data set is complete one training before the end, and worker groups the
rest; a kind with nothing ready leaves its share to the other. An engine that is up makes whatever is ready
for its reference model, data sets before evaluations, and waits for work that is still to come unless another
job needs its place.

A schedule has no clock, no I/O and no Ray: the caller reports what happened, and applies the actions that
`next` returns. The simulator `benchmarks/cluster.py` does so with a fake executor.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

from undertow.planning.costs import START_SECONDS
from undertow.sweep.graph import Step, Work
from undertow.sweep.readiness import Readiness
from undertow.sweep.scheduled_jobs import Action, Capacity, Give, Job, Start, Stop

ROUNDING = 1e-6  # shares of a GPU such as 1/3 add up to a little more than 1, and differences to more than 0
LEAST_SHARE = 0.5  # of the seconds of a start: the least training of a worker group while more can join it


class Schedule(ABC):
    """What schedules share: the jobs that run, and what happened to them.

    Attributes:
        work: the state of each artifact.
        running: the jobs that were started and have not ended, in the order of their start.
        places_up: the places of the nodes that are up, as the caller last saw them. After the loss of a node,
            jobs that were started wait for those of others.
    """

    longest_first: ClassVar[bool] = False  # see `Readiness`

    def __init__(
        self, works: Iterable[Work], capacity: Capacity, start_seconds: float = START_SECONDS
    ) -> None:
        """`start_seconds`: the estimated time until an engine or a worker group works."""
        self.work = Readiness(works, longest_first=self.longest_first)
        self.capacity, self.start_seconds = capacity, start_seconds
        self.running: dict[Job, None] = {}
        self.places_up = math.inf
        self._hold: set[str] = set()  # models whose dependants are not ready yet

    @abstractmethod
    def next(self) -> list[Action]:
        """The actions to apply now. The caller calls it again until there are none, and after each event."""

    @property
    def is_over(self) -> bool:
        """Whether nothing runs and nothing can be started."""
        return not (self.running or self.work.held or self.work.steps())

    def up(self, job: Job) -> None:
        """An engine or a worker group has started."""
        job.is_up = True

    def part_done(self, engine: Job) -> None:
        """An engine has made its part, or its artifact has failed."""
        if engine.part is not None:
            self.work.finish_part(engine.part[0], self._hold)
        engine.part = None

    def make(self, key: str) -> None:
        """An artifact was made, by a job or by another sweep."""
        self.work.make(key, self._hold)

    def fail(self, key: str) -> list[str]:
        """An artifact cannot be made. Returns the keys of those that are skipped because of it."""
        return self.work.fail(key)

    def ended(self, job: Job) -> None:
        """A job has ended, or was lost with its node: what it had still to make is ready again."""
        del self.running[job]
        for key, part in [job.part] if job.part else [(key, 0) for key in job.keys]:
            self.work.give_back(key, part)

    def resize(self, places: float) -> None:
        """The machine has more or fewer places than before."""
        self.capacity = replace(self.capacity, places=places)

    def _start(self, job: Job) -> Action:
        self.running[job] = None
        return Start(job)

    def _start_tasks(self, steps: Sequence[Step]) -> Iterator[Action]:
        """Starts all ready tasks and jobs of providers: they occupy no places, and Ray queues tasks."""
        for step in steps:
            if step.by in ("tasks", "provider"):
                for pool in self.work.pools(step):
                    while self.work.count(step, pool):
                        yield self._start(Job(step, keys=(self.work.take(step, pool)[0],)))

    def _start_group(self, step: Step, keys: tuple[str, ...]) -> Action:
        return self._start(Job(step, keys=keys, places=self.capacity.per_group))

    def _start_engine(self, step: Step, pool: Hashable) -> Action:
        return self._start(Job(step, pool, places=self.capacity.per_engine))

    def _give(self, engine: Job, step: Step) -> Action:
        key, part = engine.part = self.work.take(step, engine.pool)
        return Give(engine, key, part)

    def _stop(self, engine: Job) -> Action:
        engine.is_stopping = True
        return Stop(engine)

    def _engines(self, pool: Hashable) -> list[Job]:
        return [job for job in self.running if job.is_engine and job.pool == pool]

    @property
    def _idle(self) -> list[Job]:
        """The engines that can be given a part, or stopped."""
        return [job for job in self.running if job.is_idle and not job.is_stopping]

    def _runs(self) -> bool:
        """Whether any job makes something or starts, so that more can become ready."""
        return not all(job.is_idle for job in self.running)

    @property
    def _groups(self) -> int:
        return sum(job.step.by == "training" for job in self.running)

    def _fits(self, places: float, *, stopping: bool = True) -> bool:
        """Whether places are free. Engines that are stopping still occupy theirs if `stopping`."""
        used = math.fsum(job.places for job in self.running if stopping or not job.is_stopping)
        return places <= self.capacity.places - used + ROUNDING


class Overlapping(Schedule):
    """Everything that is ready runs, engines and worker groups at the same time."""

    longest_first = True

    def __init__(
        self, works: Iterable[Work], capacity: Capacity, start_seconds: float = START_SECONDS
    ) -> None:
        super().__init__(works, capacity, start_seconds)
        all_work = self.work.works.values()
        self._longest = max((work.seconds for work in all_work if work.step.by == "training"), default=0.0)
        self._steps_of: dict[Hashable, set[Step]] = {}  # the steps in which a pool of engines has work
        for work in all_work:
            if work.step.by == "engines":
                self._steps_of.setdefault(work.pool, set()).add(work.step)

    def next(self) -> list[Action]:
        steps = self.work.steps()
        return [*self._start_tasks(steps), *self._start_workers(steps), *self._use_engines(steps)]

    def _use_engines(self, steps: Sequence[Step]) -> Iterator[Action]:
        """Gives parts to idle engines, and stops those whose place another job needs."""
        for engine in self._idle:
            step = next((s for s in steps if s.by == "engines" and self.work.count(s, engine.pool)), None)
            if step is not None and not self._must_yield(steps):
                yield self._give(engine, step)
            elif step is not None or not self._may_wait(engine, steps):
                yield self._stop(engine)

    def _must_yield(self, steps: Sequence[Step]) -> bool:
        """Whether engines have more than their share while a whole worker group finds no place."""
        training = self._trainable(steps)
        if training is None or not self._lacks_place(steps):
            return False
        ready = self.work.count(*training)
        if ready < self._group_size(*training) and self.work.coming(*training) > ready:
            return False  # each start for fewer models costs as much
        engines = sum(job.is_engine and not job.is_stopping for job in self.running)
        return engines > self.share_of_engines()

    def _may_wait(self, engine: Job, steps: Sequence[Step]) -> bool:
        """Whether an engine without a ready part stays up for those that come."""
        if self._trainable(steps) is None and not self._runs():
            return False  # nothing runs that they could come from
        if math.fsum(job.places for job in self.running if not job.is_stopping) > self.places_up + ROUNDING:
            return False  # a job waits for this place, perhaps the training whose model the engine waits for
        comes = any(self.work.coming(step, engine.pool) for step in self._steps_of[engine.pool])
        up = {job.pool for job in self.running if job.is_engine}
        other = any(s.by == "engines" and pool not in up for s in steps for pool in self.work.pools(s))
        is_needed = other and not self._fits(self.capacity.per_engine, stopping=False)
        return comes and not is_needed and not self._lacks_place(steps)

    def _lacks_place(self, steps: Sequence[Step]) -> bool:
        """Whether a worker group is ready and finds no free place."""
        return self._trainable(steps) is not None and not self._fits(self.capacity.per_group, stopping=False)

    def _start_workers(self, steps: Sequence[Step]) -> Iterator[Action]:
        """Starts engines up to their share, then worker groups, then engines on the places that are left."""
        while True:
            engines = sum(job.is_engine for job in self.running)
            training, sampling = self._trainable(steps), self._extensible(steps)
            has_place = engines < self.capacity.engines and self._fits(self.capacity.per_engine)
            if sampling and has_place and (training is None or engines < self.share_of_engines()):
                yield self._start_engine(*sampling)
            elif training and self._fits(self.capacity.per_group):
                yield self._start_group(training[0], self._next_models(*training))
            else:
                return

    def _trainable(self, steps: Sequence[Step]) -> tuple[Step, Hashable] | None:
        """The step and the pool of the next worker group; None if none is ready or allowed."""
        if self._groups >= self.capacity.groups:
            return None
        found = ((step, pool) for step in steps if step.by == "training" for pool in self.work.pools(step))
        can_wait = self._runs() or any(step.by == "engines" for step in steps)
        return next((group for group in found if not can_wait or self._is_worth_a_start(*group)), None)

    def _is_worth_a_start(self, step: Step, pool: Hashable) -> bool:
        """Whether the ready models are enough for a worker group, or no more will join them."""
        ready, seconds = self.work.count(step, pool), self.work.first(step, pool).seconds
        return ready * seconds >= self._least_seconds or ready >= self.work.coming(step, pool)

    @property
    def _least_seconds(self) -> float:
        """The least training that is worth the start of a worker group.

        With more, the last groups of a large machine would end late (`benchmarks/cluster.py`).
        """
        return LEAST_SHARE * self.start_seconds

    def _group_size(self, step: Step, pool: Hashable) -> int:
        """How many models a worker group gets: a slot's part of the trainings that have not begun.

        Groups are small towards the end, so that all end together, but not smaller than is worth a start.
        """
        seconds = self.work.first(step, pool).seconds
        part = max(self.work.waiting_seconds / self.capacity.groups, self._least_seconds)
        return max(1, math.ceil(part / seconds - ROUNDING)) if seconds else self.work.count(step, pool)

    def _next_models(self, step: Step, pool: Hashable) -> tuple[str, ...]:
        """The models of the next worker group."""
        count = min(self._group_size(step, pool), self.work.count(step, pool))
        return tuple(self.work.take(step, pool)[0] for _ in range(count))

    def _extensible(self, steps: Sequence[Step]) -> tuple[Step, Hashable] | None:
        """The pool with the most ready work per engine, and its step; None if none is worth another start."""
        best, most = None, -1.0
        for step in steps:
            for pool in self.work.pools(step) if step.by == "engines" else ():
                engines = self._engines(pool)
                each = self.work.seconds(pool) / (len(engines) + 1)
                starting = sum(job.part is None for job in engines)
                is_worth = not engines or each >= self.start_seconds
                if is_worth and self.work.count(step, pool) > starting and each > most:
                    best, most = (step, pool), each
        return best

    def share_of_engines(self) -> int:
        """How many engines make the last data set complete one training before the end.

        In that last time trainings have all places, so that only the time before it is divided.
        """
        sampling = self.work.sampling_seconds * self.capacity.per_engine
        if sampling <= ROUNDING:
            return 0
        training = self.work.training_seconds * self.capacity.per_group
        end = self.capacity.places * (self._longest + self.start_seconds)
        share = sampling / (sampling + max(0.0, training - end))
        return max(
            1, min(self.capacity.engines, round(share * self.capacity.places / self.capacity.per_engine))
        )

"""The schedule of a sweep in waves, for simulations: one step at a time, each with the whole machine.

    references → teachers → datasets → students → evaluations
    ↑___________ once for each hop of a chain ____________|

A sweep without `--overlap` runs these steps by `undertow.sweep.waves`, which has no schedule; a test compares
the order of both.
"""

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

from undertow.planning.costs import START_SECONDS
from undertow.planning.resources import START_SHARE, parts_of
from undertow.sweep.graph import Step, Work
from undertow.sweep.schedule import Schedule
from undertow.sweep.scheduled_jobs import Action, Capacity


class WithBarriers(Schedule):
    """One step at a time. Dependants of a student wait for the next round, or for the evaluations.

    Attributes:
        step: the step that runs; None before the first and after the last.
        start_share: see `parts_of`.
    """

    def __init__(
        self,
        works: Iterable[Work],
        capacity: Capacity,
        start_seconds: float = START_SECONDS,
        start_share: float = START_SHARE,
    ) -> None:
        super().__init__(works, capacity, start_seconds)
        self.start_share = start_share
        self.step: Step | None = None
        # The worker groups of this step that were not started.
        self._waiting: deque[tuple[str, ...]] = deque()
        self._pools = 1  # how many pools of engines run at a time in this step

    @property
    def is_over(self) -> bool:
        return super().is_over and not self._waiting

    def make(self, key: str) -> None:
        if self.work.works[key].step.wave == "students":
            self._hold.add(key)
        super().make(key)

    def next(self) -> list[Action]:
        if not self._is_busy():
            self._enter_step()
        actions = list(self._use_engines())
        if self.step is not None:
            actions += self._start_tasks([self.step])
            if self.step.by == "training":
                actions += self._start_groups(self.step)
            elif self.step.by == "engines":
                actions += self._start_engines(self.step)
        return actions

    def _is_busy(self) -> bool:
        """Whether the current step has work that runs, is ready, or waits for a place."""
        is_ready = self.step is not None and bool(self.work.pools(self.step))
        return is_ready or bool(self._waiting) or self._runs()

    def _enter_step(self) -> None:
        """Goes on to the next step with ready work; a round ends when there is none before evaluations."""
        last = self.step
        later = [s for s in self.work.steps() if s.wave != "evaluations" and (last is None or s > last)]
        if not later:
            self._hold.clear()
            self.work.release()
            ready = self.work.steps()
            later = [step for step in ready if step.wave != "evaluations"] or ready
        self.step = later[0] if later else None
        pools = len(self.work.pools(self.step)) if self.step else 0
        self._pools = max(1, min(pools, self.capacity.engines))

    def _use_engines(self) -> Iterator[Action]:
        """Gives parts to idle engines, and stops those for which this step has and gets none."""
        for engine in self._idle:
            is_of_step = engine.step == self.step
            if is_of_step and self.work.count(engine.step, engine.pool):
                yield self._give(engine, engine.step)
            elif not (is_of_step and self._runs() and self.work.coming(engine.step, engine.pool)):
                yield self._stop(engine)

    def _start_groups(self, step: Step) -> Iterator[Action]:
        """Divides the ready models into worker groups, and starts as many as fit."""
        members: dict[Hashable, list[str]] = {}
        for pool in self.work.pools(step):
            while self.work.count(step, pool):
                members.setdefault(pool, []).append(self.work.take(step, pool)[0])
        self._waiting.extend(divided(members, self.capacity.groups, self.start_share))
        while self._waiting and self._groups < self.capacity.groups and self._fits(self.capacity.per_group):
            yield self._start_group(step, self._waiting.popleft())

    def _start_engines(self, step: Step) -> Iterator[Action]:
        """Starts the engines of as many pools as fit, each with an equal share of them."""
        share = max(1, self.capacity.engines // self._pools)
        for pool in self.work.pools(step):
            active = {job.pool for job in self.running if job.is_engine}
            if pool not in active and len(active) >= self._pools:
                return
            while len(engines := self._engines(pool)) < share and self._fits(self.capacity.per_engine):
                if self.work.coming(step, pool) <= sum(job.part is None for job in engines):
                    break
                yield self._start_engine(step, pool)


def divided(
    members: Mapping[Hashable, Sequence[str]], slots: int, start: float = START_SHARE
) -> list[tuple[str, ...]]:
    """Worker groups of models by pool, as in `grouping.groups`; `start` is that of `parts_of`."""
    parts = parts_of(list(map(len, members.values())), slots, start)
    return [tuple(models[i::parts]) for models in members.values() for i in range(min(parts, len(models)))]

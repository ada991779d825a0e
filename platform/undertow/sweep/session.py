"""Runs an overlapping schedule on Ray, over the artifacts that a sweep holds (see `overlapping_sweep`).

    main thread     asks the schedule what to start, and records the reports (`outcomes`)
    engine          one thread each; its actor makes one part after the other (`cluster.engine_worker`)
    trainings       one thread; a run of Ray Tune gets groups as they start (`stages.ready_groups`)
    tasks           one thread for those that start together (`TaskWorkers`), which also calls judges

The other threads change nothing here: they report by `_post`, and the main thread calls what they posted. So
every decision follows from the order of the reports, and Ctrl-C reaches the main thread while it waits.
"""

import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from undertow.cluster.connection import places_up
from undertow.cluster.tasks import TaskWorkers
from undertow.errors import ConditionError, StorageError, UserError
from undertow.planning.artifact_kinds import runs_on
from undertow.planning.resources import Machine
from undertow.study.completions import Completions
from undertow.study.datasets import Dataset
from undertow.study.identity import key
from undertow.study.measurements import Assessment
from undertow.study.references import Artifact
from undertow.study.rewriting import Rewritten
from undertow.study.students import Student
from undertow.study.teachers import Teacher
from undertow.sweep.executors import Executors
from undertow.sweep.graph import Step
from undertow.sweep.makers import engine_task, stage_of
from undertow.sweep.outcomes import Outcomes
from undertow.sweep.schedule import Schedule
from undertow.sweep.scheduled_jobs import Give, Job, Start, Stop

CONCURRENT_TASKS = 8  # of those that start together
SECONDS_BETWEEN_LOOKS = 10.0  # at the nodes that are up
SECONDS_TO_END = 30.0  # for the threads after an error, before Ray is shut down


class Session:
    """Applies the actions of a schedule, and reports to it what its threads have done."""

    def __init__(
        self, executors: Executors, machine: Machine, schedule: Schedule, artifacts: Mapping[str, Artifact]
    ) -> None:
        """`artifacts`: those of the schedule, by key."""
        self.plan, self.store, self.machine = executors.plan, executors.store, machine
        self.schedule, self.artifacts = schedule, artifacts
        self.outcomes = Outcomes(executors, schedule, artifacts)
        self._gates = executors.gates
        # The finished shards of completions: at first those that an earlier sweep has left.
        self._finished = {
            name: self.store.parts(artifact)
            for name, artifact in artifacts.items()
            if isinstance(artifact, Completions)
        }
        self._pools = self._pools_of_engines()  # the artifacts that engines make
        self._inbox: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._orders: dict[Job, queue.SimpleQueue[Any]] = {}  # parts for the engines; None to end
        self._ready: Any = None  # the groups for Ray Tune, from the first training on
        self._groups: dict[int, tuple[Job, float]] = {}  # worker groups, and when they were handed over
        self._threads: list[threading.Thread] = []
        self._joining, self._calling = threading.Lock(), threading.Lock()
        self._replies: Any = None  # of judges, collected by one thread at a time
        self._workers = TaskWorkers()
        self._looked = time.monotonic()  # at the nodes that are up

    def run(self) -> None:
        """Runs the schedule to its end. Raises the first unexpected error of a thread."""
        from undertow.cluster.interrupts import stopped_on_error

        with self.outcomes.progress:
            with self._ended_threads(), stopped_on_error():
                self._apply()
                while not self.schedule.is_over:
                    if not self.schedule.running:
                        raise RuntimeError("the schedule has work left and starts nothing")
                    self._next_report()
                    self._apply()
            while not self._inbox.empty():  # the last reports of the threads
                self._inbox.get()()
        self.outcomes.log_waves()

    def _next_report(self) -> None:
        """Calls what a thread posts next, if it does so in time; looks at the nodes now and then."""
        try:
            report = self._inbox.get(timeout=SECONDS_BETWEEN_LOOKS)
        except queue.Empty:
            pass
        else:
            report()
        if time.monotonic() - self._looked > SECONDS_BETWEEN_LOOKS:
            self.schedule.places_up = places_up(self.machine)
            self._looked = time.monotonic()

    def _apply(self) -> None:
        """Applies the actions of the schedule until it has none."""
        tasks: dict[Step, list[Job]] = {}
        while actions := self.schedule.next():
            for action in actions:
                match action:
                    case Start(job) if job.is_engine:
                        self._orders[job] = queue.SimpleQueue()
                        self._thread(self._drive_engine, job, self._orders[job])
                    case Start(job) if job.step.by == "training":
                        self._hand_over(job)
                    case Start(job):
                        tasks.setdefault(job.step, []).append(job)
                    case Give(engine, name, part):
                        self._orders[engine].put((self.artifacts[name], part))
                    case Stop(engine):
                        self._orders[engine].put(None)
        for jobs in tasks.values():
            self._thread(self._drive_tasks, jobs)

    # Threads.

    def _thread(self, drive: Callable[..., None], *arguments: Any) -> None:
        """Starts a thread; an unexpected error in it is raised in the main thread."""
        from undertow.cluster.interrupts import StoppedError

        def run() -> None:
            try:
                drive(*arguments)
            except StoppedError:
                pass  # the sweep ends; what interrupted it is raised in the main thread
            except BaseException as error:
                self._post(_raise, error)

        thread = threading.Thread(target=run, daemon=True)
        self._threads = [*(other for other in self._threads if other.is_alive()), thread]
        thread.start()

    def _post(self, function: Callable[..., object], *arguments: Any) -> None:
        """Lets the main thread call a function."""
        self._inbox.put(partial(function, *arguments))

    @contextmanager
    def _ended_threads(self) -> Iterator[None]:
        """Ends the threads, also after an error: Ray must not be shut down under them."""
        try:
            yield
        finally:
            if self._ready is not None:
                self._ready.close()
            for orders in self._orders.values():
                orders.put(None)
            deadline = time.monotonic() + SECONDS_TO_END
            for thread in self._threads:
                thread.join(max(0.0, deadline - time.monotonic()))

    # Engines.

    def _pools_of_engines(self) -> dict[Any, list[Artifact]]:
        """The artifacts that the engines of each pool make; they have the same reference model."""
        pools: dict[Any, list[Artifact]] = {}
        for name, work in self.schedule.work.works.items():
            if work.step.by == "engines":
                pools.setdefault(work.pool, []).append(self.artifacts[name])
        return pools

    def _settings(self, pool: Any) -> Mapping[str, Any]:
        """The settings of an engine that can run the tasks of a pool.

        How long rewritten rows are is known only when their data set exists; `EngineWorker.run` replaces the
        engine if it is too small for those that come later.
        """
        from undertow.cluster.engine_pool import needed

        def is_known(artifact: Artifact) -> bool:
            return not isinstance(artifact, Rewritten) or self.store.has(artifact.dataset)

        tasks = []
        for artifact in filter(is_known, self._pools[pool]):
            with suppress(ConditionError, StorageError):  # reported by `_make_part`
                tasks.append(self._task(artifact, 0))
        return self.machine.engine_settings() | needed(tasks)

    def _task(self, artifact: Artifact, part: int) -> Any:
        gates = self._gates.get(artifact.teacher, ()) if isinstance(artifact, Completions) else ()
        return engine_task(artifact, part, self.store, self.plan.study.gate, gates)

    def _drive_engine(self, job: Job, orders: "queue.SimpleQueue[Any]") -> None:
        """Starts an engine and runs its tasks, until the schedule stops it or its process dies."""
        from ray.exceptions import RayError

        from undertow.cluster.engine_pool import EngineStartError
        from undertow.cluster.engine_worker import EngineWorker

        began, worker = time.monotonic(), None
        reference = runs_on(self._pools[job.pool][0])
        assert reference is not None  # see `graph`
        try:
            worker = EngineWorker(reference, self.store, self._settings(job.pool), self.machine)
            worker.start()
            self._post(self.outcomes.engine_up, job, time.monotonic() - began)
            while (order := orders.get()) is not None:
                self._post(self.outcomes.part_done, job, order[0], self._make_part(worker, *order))
        except EngineStartError as error:
            reason = f"failed to start: {error}"
            self._post(self.outcomes.engine_failed, job, reference, reason, error.traceback)
        except (RayError, UserError, ConditionError, StorageError) as error:
            self._post(self.outcomes.engine_lost, job, reference, error, traceback.format_exc())
        finally:
            if worker is not None:
                with suppress(Exception):  # Ray may be gone
                    worker.stop()
            self._post(self._engine_ended, job)

    def _make_part(self, worker: Any, artifact: Artifact, part: int) -> Any:
        """The outcome of a part of an artifact; None if an earlier sweep has left it."""
        from undertow.cluster.engine_pool import TaskOutcome

        try:
            task, outcome = self._task(artifact, part), None
            if not isinstance(artifact, Completions):
                return worker.run(task)
            if task.name not in self._finished[key(artifact)]:
                outcome = worker.run(task)
            if outcome is None or not outcome.error:
                self._join(artifact, task.name)
            return outcome
        except (ConditionError, StorageError) as error:
            return TaskOutcome(part, 0.0, {}, str(error))

    def _join(self, spec: Completions, finished: str) -> None:
        """Commits completions with the last of their shards, of which one more has `finished`."""
        from undertow.stages.completions import join_shards, shards

        with self._joining:
            names = self._finished[key(spec)]
            names.add(finished)
            is_last = all(shard.name in names for shard in shards(spec, 0.0, ()))
            if is_last and not self.store.has(spec):
                join_shards(spec, self.store)

    def _engine_ended(self, job: Job) -> None:
        del self._orders[job]
        self.schedule.ended(job)

    # Worker groups.

    def _hand_over(self, job: Job) -> None:
        """Hands a worker group to Ray Tune, whose run begins with the first one."""
        from undertow.stages.ready_groups import ReadyGroups
        from undertow.stages.training_group import Group

        if self._ready is None:
            self._ready = ReadyGroups()
            self._thread(self._drive_trainings, self._ready)
        models: list[Any] = [self.artifacts[name] for name in job.keys]
        group = Group(tuple(models), self.plan.study.probed, self.plan.study.system)
        self._groups[self._ready.add(group)] = job, time.monotonic()

    def _drive_trainings(self, ready: Any) -> None:
        from undertow.stages.ready_groups import train_as_ready
        from undertow.stages.training_listener import TrainingListener

        study, outcomes = self.plan.study, self.outcomes
        train_as_ready(
            ready,
            {name: a for name, a in self.artifacts.items() if isinstance(a, Student | Teacher)},
            self.store,
            self.machine,
            watch=study.probed,
            system=study.system,
            listener=TrainingListener(
                on_epoch=partial(self._post, outcomes.epoch),
                on_step=partial(self._post, outcomes.step),
                on_made=partial(self._post, outcomes.trained),
                on_failed=partial(self._post, outcomes.not_trained),
                on_note=partial(self._post, outcomes.note),
            ),
            on_end=partial(self._post, self._group_ended),
        )
        self._post(self._trainings_ended)

    def _trainings_ended(self) -> None:
        """The run of Ray Tune has ended: groups that are left, of which there should be none, have failed.

        A later group begins another run.
        """
        self._ready = None
        for number in list(self._groups):
            self._group_ended(number, "the run of Ray Tune ended before it")

    def _group_ended(self, number: int, failure: str) -> None:
        job, began = self._groups.pop(number)
        self.outcomes.group_ended(job, failure, time.monotonic() - began)

    # Tasks.

    def _drive_tasks(self, jobs: Sequence[Job]) -> None:
        """Runs the tasks of jobs of one step, some at a time, or one by one after their judges."""
        from undertow.cluster.interrupts import raise_if_stopping
        from undertow.stages.judgements import models_of

        by_key = {job.keys[0]: job for job in jobs}
        artifacts = [self.artifacts[name] for name in by_key]
        is_judged = any(models_of(a) for a in artifacts if isinstance(a, Dataset | Assessment))
        size = 1 if is_judged else CONCURRENT_TASKS
        for first in range(0, len(artifacts), size):
            some = artifacts[first : first + size]
            if is_judged and (failure := self._ask_judges(some[0])):
                self._post(self.outcomes.task_done, by_key[key(some[0])], failure)
                continue
            tasks = self._workers.run_each(stage_of(some[0]), self.store, some, check=raise_if_stopping)
            for artifact, failure in tasks:
                self._post(self.outcomes.task_done, by_key[key(artifact)], failure)

    def _ask_judges(self, artifact: Any) -> tuple[str, str] | None:
        """Asks the judges of an artifact; the reason and a traceback if replies are missing afterwards.

        One thread at a time asks, so that the limit on concurrent calls holds for the whole sweep.
        """
        from undertow.cluster.interrupts import raise_if_stopping
        from undertow.judging.client import ReplyCollector
        from undertow.stages.judgements import judge_all, models_of

        if not models_of(artifact):
            return None
        with self._calling:
            raise_if_stopping()
            self._replies = self._replies or ReplyCollector(self.store)
            (judged,) = judge_all(
                [artifact], self.store, lambda share: raise_if_stopping(), collector=self._replies
            )
        raise_if_stopping()  # a judge that an interrupt stopped has not failed
        self._post(self.outcomes.judged, judged)
        return (judged.failure, judged.traceback) if judged.failure else None


def _raise(error: BaseException) -> None:
    raise error

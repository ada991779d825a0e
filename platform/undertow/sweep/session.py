"""One run of an overlapping schedule on Ray, over artifacts that the sweep holds (see `overlapping_sweep`)."""

import queue
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import cached_property
from typing import Any

from undertow.errors import ConditionError, StorageError
from undertow.planning import timings
from undertow.planning.artifact_kinds import WAVES, Wave, kind_of, runs_on, wave_of
from undertow.planning.costs import Hardware, cost_of
from undertow.planning.model_sizes import parameters
from undertow.planning.resources import Machine
from undertow.planning.timings import Pace, Timing
from undertow.stages.gate import passes_gate
from undertow.stages.reference import make_reference
from undertow.study.artifacts import (
    Artifact,
    Completions,
    Dataset,
    ImportedCompletions,
    Reference,
    Student,
    Teacher,
    Written,
)
from undertow.study.identity import key
from undertow.study.measurements import Assessment, Evaluation, Measurement
from undertow.sweep.executors import Executors, training_totals
from undertow.sweep.graph import Step, graph, step_of
from undertow.sweep.progress import Progress, print_line
from undertow.sweep.schedule import Overlapping
from undertow.sweep.scheduled_jobs import Capacity, Give, Job, Start, Stop

SECONDS_BETWEEN_WRITES = 30.0  # of the event log
CONCURRENT_TASKS = 8  # of one step
SECONDS_TO_END = 30.0  # for the threads after an error, before Ray is shut down


class Session:
    """Applies the actions of a schedule, and reports to it what their threads tell."""

    def __init__(
        self,
        executors: Executors,
        machine: Machine,
        capacity: Capacity,
        hardware: Hardware,
        artifacts: Sequence[Artifact],
    ) -> None:
        """`hardware`: for estimates of work whose speed was not measured on the storage."""
        self.plan, self.store, self.events = executors.plan, executors.store, executors.events
        self.link, self.console = executors.link, executors.console
        self.machine, self.hardware, self.capacity = machine, hardware, capacity
        self.artifacts = {key(artifact): artifact for artifact in artifacts}
        works = [work for work in graph(self.plan, self._seconds) if work.key in self.artifacts]
        self.schedule = Overlapping(works, self.capacity)
        self.progress = Progress(self.console, "artifacts", len(works), "artifacts")
        self._inbox: queue.Queue[Callable[[], object]] = queue.Queue()
        self._orders: dict[Job, queue.Queue[Any]] = {}  # tasks for the threads of engines; None to end
        self._threads: list[threading.Thread] = []
        self._joining = threading.Lock()
        self._lost: Counter[Any] = Counter()  # nodes that a pool of engines has lost
        self._epochs: dict[str, list[Any]] = {}
        self._used: Counter[Wave] = Counter()  # seconds of places
        self._tokens: Counter[Wave] = Counter()
        self._units: Counter[Wave] = Counter()
        self._timings: dict[Wave, list[Timing]] = {wave: [] for wave in WAVES}

    def run(self) -> None:
        """Runs the schedule to its end."""
        from undertow.cluster.interrupts import stopped_on_error

        written = time.monotonic()
        with self.progress, self._ended_threads(), stopped_on_error():
            self._apply()
            while not self.schedule.is_over:
                self._inbox.get()()
                self._apply()
                if time.monotonic() - written > SECONDS_BETWEEN_WRITES:
                    self.events.write()
                    written = time.monotonic()
        self._log_waves()

    def _apply(self) -> None:
        """Applies the actions of the schedule until it has none."""
        tasks: dict[Step, list[Job]] = {}
        while actions := self.schedule.next():
            for action in actions:
                match action:
                    case Start(job) if job.is_engine:
                        self._orders[job] = queue.Queue()
                        self._thread(self._drive_engine, job, self._orders[job])
                    case Start(job) if job.step.by == "training":
                        self._thread(self._drive_group, job)
                    case Start(job):
                        tasks.setdefault(job.step, []).append(job)
                    case Give(engine, name, part):
                        self._orders[engine].put(self._task(name, part))
                    case Stop(engine):
                        self._orders[engine].put(None)
        for jobs in tasks.values():
            self._thread(self._drive_tasks, jobs)

    # Threads. They change nothing here, but report through `_post`.

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
        self._threads.append(thread)
        thread.start()

    def _post(self, function: Callable[..., object], *arguments: Any) -> None:
        """Lets the main thread call a function."""
        self._inbox.put(lambda: function(*arguments))

    @contextmanager
    def _ended_threads(self) -> Iterator[None]:
        """Waits for the threads after an error: Ray must not be shut down under them."""
        try:
            yield
        finally:
            for orders in self._orders.values():
                orders.put(None)
            deadline = time.monotonic() + SECONDS_TO_END
            for thread in self._threads:
                thread.join(max(0.0, deadline - time.monotonic()))

    def _drive_engine(self, job: Job, orders: "queue.Queue[Any]") -> None:
        from undertow.cluster.engine_pool import EngineStartError
        from undertow.cluster.engine_worker import EngineWorker

        began = time.monotonic()
        worker = EngineWorker(*self._engine_of(job), self.machine)
        try:
            worker.start()
            self._post(self._up, job, time.monotonic() - began)
            while (order := orders.get()) is not None:
                task, is_present = order
                outcome = None if is_present else worker.run(task)
                if isinstance(task.artifact, Completions) and not (outcome and outcome.error):
                    self._join(task.artifact)
                self._post(self._part_done, job, task.artifact, outcome)
        except EngineStartError as error:
            self._post(self._fail_pool, job, f"failed to start: {error}", error.traceback)
        except Exception as error:  # the engine's process died
            self._post(self._lose_engine, job, error, traceback.format_exc())
        finally:
            with suppress(Exception):  # Ray may be gone
                worker.stop()
            self._post(self._end, job)

    def _drive_group(self, job: Job) -> None:
        from undertow.stages import finetuning

        study, began = self.plan.study, time.monotonic()
        models: list[Any] = [self.artifacts[name] for name in job.keys]
        failures = finetuning.train(
            finetuning.groups(models, 1, study.probed, study.system),
            self.store,
            self.machine,
            lambda report: self._post(self._epoch, report),
            lambda name: self._post(self._made, self.artifacts[name]),
            lambda name, text: self._post(self._note, self.artifacts[name], text),
            lambda report: self._post(self.link.log_step, self.artifacts[report.key], asdict(report)),
        )
        self._post(self._trained, job, failures, time.monotonic() - began)

    def _drive_tasks(self, jobs: Sequence[Job]) -> None:
        from undertow.cluster.tasks import run_each

        by_key = {job.keys[0]: job for job in jobs}
        artifacts = [self.artifacts[name] for name in by_key]
        for first in range(0, len(artifacts), CONCURRENT_TASKS):
            some = artifacts[first : first + CONCURRENT_TASKS]
            # They reserve no CPU: engines that wait for their results may hold all CPUs of a node.
            for artifact, failure in run_each(_maker(some[0]), self.store, some, cpus=0):
                self._post(self._task_done, by_key[key(artifact)], artifact, failure)

    def _join(self, spec: Completions) -> None:
        """Commits completions once all of their shards exist."""
        from undertow.stages.completions import join_shards, shards

        with self._joining:
            names = {shard.name for shard in shards(spec, 0.0, ())}
            if not self.store.has(spec) and names <= self.store.parts(spec):
                join_shards(spec, self.store)

    # Reports, in the main thread.

    def _up(self, job: Job, seconds: float) -> None:
        self._used[job.step.wave] += seconds * job.places
        self.schedule.up(job)

    def _end(self, job: Job) -> None:
        del self._orders[job]
        self.schedule.ended(job)

    def _part_done(self, job: Job, artifact: Artifact, outcome: Any) -> None:
        """An engine has made a part; `outcome` is None if an earlier sweep had made it."""
        if outcome is not None:
            wave, tokens = wave_of(artifact), outcome.facts.get("tokens", 0)
            self._used[wave] += outcome.seconds * job.places
            self._tokens[wave] += tokens
            self._units[wave] += 1
            self._timings[wave].append(Timing(artifact, 0.0, outcome.seconds, outcome.units, tokens))
            if outcome.error:
                self._fail(artifact, outcome.error, outcome.traceback)
            elif outcome.retried:
                self.events.event("retried", artifact, traceback=outcome.retried)
        self.schedule.part_done(job)
        if key(artifact) in self.schedule.work.made:
            self._check_gate(artifact)
            self._show()

    def _lose_engine(self, job: Job, error: Exception, trace: str) -> None:
        from undertow.cluster.worker_failures import ENGINES, LOST_NODES, in_words, lost_node

        self._lost[job.pool] += 1
        if not lost_node(error) or self._lost[job.pool] > LOST_NODES:
            self._fail_pool(job, f"failed: {in_words(error, ENGINES, self._lost[job.pool])}", trace)

    def _fail_pool(self, job: Job, reason: str, trace: str) -> None:
        """Fails everything that engines of a pool could make now."""
        work = self.schedule.work
        reference, *_ = self._engine_of(job)
        for name, its in work.works.items():
            is_ready = its.pool == job.pool and its.step.by == "engines" and work.made.issuperset(its.inputs)
            if is_ready and not work.is_settled(name):
                self._fail(self.artifacts[name], f"the engine of {reference.name} {reason}", trace)

    def _epoch(self, report: Any) -> None:
        model: Any = self.artifacts[report.key]
        self._epochs.setdefault(report.key, []).append(report)
        self.link.log(lambda tracker: tracker.epoch(model, asdict(report)))

    def _note(self, model: Artifact, text: str) -> None:
        if not any(event.get("text") == text for event in self.events.events):
            print_line(text, self.console)
        self.events.event("noted", model, text=text)

    def _trained(self, job: Job, failures: Mapping[str, str], seconds: float) -> None:
        """A worker group has ended."""
        self._used[job.step.wave] += seconds * job.places
        for name in job.keys:
            model: Any = self.artifacts[name]
            if not self.schedule.work.is_settled(name):
                if name in failures or not self.store.has(model):
                    self._fail(model, failures.get(name, "its training ended without a result"))
                else:
                    self._made(model)
            totals = training_totals(model, self._epochs.get(name, []), name in self.schedule.work.made)
            self._units[job.step.wave] += 1
            self._tokens[job.step.wave] += round(totals[2])
            self._timings[job.step.wave].append(Timing(model, 0.0, *totals))
        self.link.flush_steps()
        self.schedule.ended(job)

    def _task_done(self, job: Job, artifact: Artifact, failure: tuple[str, str] | None) -> None:
        self._units[job.step.wave] += 1
        if failure:
            self._fail(artifact, *failure)
        else:
            self._made(artifact)
            self._check_gate(artifact)
        self.schedule.ended(job)

    def _made(self, artifact: Artifact) -> None:
        """An artifact of a task or of a worker group was made."""
        self.events.event("made", artifact)
        self.schedule.make(key(artifact))
        if isinstance(artifact, Reference):
            try:
                self.store.fetch(artifact)
            except StorageError as error:  # damaged: no engine and no worker may start on it
                self._fail(artifact, str(error))
        self._show()

    def _fail(self, artifact: Artifact, reason: str, trace: str = "") -> None:
        self.events.fail(artifact, reason, trace)
        self.progress.fail(1 + len(self.schedule.fail(key(artifact))))
        self._show()

    def _check_gate(self, artifact: Artifact) -> None:
        """Fails a teacher below the study's gate, and skips what depends on its measurement."""
        if isinstance(artifact, Measurement) and isinstance(artifact.subject, Teacher):
            try:
                passes_gate(artifact, self.store, self.plan.study.gate)
            except ConditionError as error:
                self.events.fail(artifact.subject, str(error))
                self.progress.fail(len(self.schedule.fail(key(artifact))))
            except StorageError as error:  # its bytes changed since they were written
                self._fail(artifact, str(error))

    def _show(self) -> None:
        """Shows the artifacts that are made or failed, and how many jobs run."""
        work, running = self.schedule.work, self.schedule.running
        engines = sum(job.is_engine for job in running)
        groups = sum(job.step.by == "training" for job in running)
        students = [name for name, its in work.works.items() if its.step.wave == "students"]
        made = sum(name in work.made for name in students)
        parts = [f"{made:,} of {len(students):,} students"] if students else []
        parts += [f"{count} {noun}" for count, noun in ((engines, "engines"), (groups, "trainings")) if count]
        self.progress.detail = ", ".join(parts)
        settled = len(work.made) + len(work.failed - work.made) + len(work.skipped)
        self.progress.advance(settled - self.progress.done)

    def _log_waves(self) -> None:
        """Records the time, tokens and speeds of each wave.

        The seconds are those that all places together would have needed, so that they add up to the time of
        the sweep less what was idle.
        """
        for wave in WAVES:
            if self._units[wave]:
                seconds = self._used[wave] / self.capacity.places
                self.events.wave(wave, self._units[wave], seconds, self._tokens[wave], part_of=wave)
                timings.add(self.store, wave, [t._replace(at=seconds) for t in self._timings[wave]])
        self.events.write()

    # What jobs need.

    def _task(self, name: str, part: int) -> tuple[Any, bool]:
        """The task of a part, and whether an earlier sweep has left its result."""
        from undertow.stages.completions import shards
        from undertow.stages.evaluation import Evaluate

        artifact = self.artifacts[name]
        match artifact:
            case Completions():
                shard = shards(artifact, self.plan.study.gate, self._gates.get(key(artifact.teacher), ()))[part]
                return shard, shard.name in self._present.get(name, ())
            case Evaluation():
                return Evaluate(artifact), False
        kind = kind_of(artifact)
        assert kind.task is not None
        return kind.task(artifact), False

    @cached_property
    def _present(self) -> dict[str, set[str]]:
        """The shards of completions that an earlier sweep has left."""
        return {
            name: self.store.parts(artifact)
            for name, artifact in self.artifacts.items()
            if isinstance(artifact, Completions)
        }

    @cached_property
    def _gates(self) -> dict[str, tuple[Evaluation, ...]]:
        """The evaluations of the gate, by the key of the teacher."""
        return {
            key(cell.writer): tuple(e for e in cell.teacher_evaluations if isinstance(e, Evaluation))
            for cell in self.plan.cells
            if cell.writer is not None
        }

    def _engine_of(self, job: Job) -> tuple[Reference, Any, Mapping[str, Any]]:
        """The reference model of an engine, the store, and the settings with which it can run all its tasks."""
        return self._pools[job.pool][0], self.store, self._pools[job.pool][1]

    @cached_property
    def _pools(self) -> dict[Any, tuple[Reference, Mapping[str, Any]]]:
        """For each pool of engines its reference model, and settings for all of its tasks."""
        from undertow.cluster.engine_pool import needed

        tasks: dict[Any, list[Any]] = {}
        references: dict[Any, Reference] = {}
        for name, work in self.schedule.work.works.items():
            reference = runs_on(self.artifacts[name])
            if work.step.by == "engines" and reference is not None:
                references[work.pool] = reference
                tasks.setdefault(work.pool, []).append(self._task(name, 0)[0])
        own = self.machine.engine_settings()
        return {pool: (reference, own | needed(tasks[pool])) for pool, reference in references.items()}

    def _seconds(self, artifact: Artifact) -> float:
        """An estimate: measured on the storage, else from the model's size, else the number of units."""
        size, by = timings.expected_units(artifact), step_of(artifact).by
        if pace := timings.pace_of(wave_of(artifact), artifact, self._paces):
            return pace.seconds * size * (self.machine.slots if by == "training" else self.machine.actors)
        reference = runs_on(artifact)
        count = parameters(reference) if reference else None
        if not size or count is None:
            return float(size)
        places = self.capacity.per_group if by == "training" else self.capacity.per_engine
        return cost_of(artifact, count, self.hardware).seconds / places

    @cached_property
    def _paces(self) -> Mapping[str, Pace]:
        return timings.read(self.store)


def _maker(artifact: Artifact) -> Callable[[Any, Any], object]:
    """The stage that makes an artifact in a task."""
    from undertow.stages.assessment import make_assessment
    from undertow.stages.completions import import_rows, write_answers
    from undertow.stages.dataset import make_dataset

    match artifact:
        case Reference():
            return make_reference
        case Written():
            return write_answers
        case ImportedCompletions():
            return import_rows
        case Dataset():
            return make_dataset
        case Assessment():
            return make_assessment
    make = kind_of(artifact).make
    assert make is not None
    return make


def _raise(error: BaseException) -> None:
    raise error

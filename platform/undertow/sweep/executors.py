"""How a step makes artifacts: in Ray tasks, in worker groups, on engines, or at a provider.

Every method shows its progress, records each artifact's outcome in the event log, and does not raise for an
artifact that cannot be made. Which artifacts are made, and in which order, is decided in `sweep.waves`.
"""

import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, TypeVar

from rich.console import Console

from undertow.engines.registry import engine_for
from undertow.errors import ConditionError, StorageError
from undertow.planning import timings
from undertow.planning.artifact_kinds import Wave, kind_of, runs_on, units
from undertow.planning.given_models import is_nano
from undertow.planning.plan import Plan, failed_by
from undertow.planning.resources import Machine
from undertow.results.events import EventLog
from undertow.storage.store import Store
from undertow.study.completions import Completions
from undertow.study.datasets import Dataset
from undertow.study.identity import key
from undertow.study.measurements import Assessment, Evaluation
from undertow.study.references import Artifact, Reference
from undertow.study.row_scores import RowScores
from undertow.study.students import Student
from undertow.study.teachers import Teacher
from undertow.sweep.engine_pools import EnginePools
from undertow.sweep.graph import Step, step_of
from undertow.sweep.makers import engine_task, stage_of
from undertow.sweep.progress import Progress, print_line
from undertow.sweep.time_left import Lane
from undertow.tracking.link import Link

T = TypeVar("T", bound=Artifact)
Sampled = Completions | Evaluation  # artifacts that engines sample from teachers


@dataclass(frozen=True)
class Executors:
    """The ways to make the artifacts of a plan, with the store, logs and console that they share."""

    plan: Plan
    store: Store
    link: Link
    events: EventLog
    console: Console

    @cached_property
    def gates(self) -> dict[Teacher, tuple[Evaluation, ...]]:
        """The sampled measurements that each teacher must pass before its data are sampled."""
        return {
            cell.writer: tuple(e for e in cell.teacher_evaluations if isinstance(e, Evaluation))
            for cell in self.plan.cells
            if cell.writer is not None
        }

    def possible(self, artifacts: Sequence[T]) -> list[T]:
        """Those of the artifacts that the storage lacks and that do not depend on a failed one."""
        made = {kind: self.store.keys(kind) for kind in {artifact.kind for artifact in artifacts}}
        missing = [artifact for artifact in artifacts if key(artifact) not in made[artifact.kind]]
        return [artifact for artifact in missing if not failed_by(artifact, self.events.failures)]

    def make(self, artifacts: Sequence[Any], machine: Machine) -> None:
        """Makes artifacts of one step (`graph.step_of`), some of which a provider may make."""
        step = step_of(artifacts[0])
        if isinstance(artifacts[0], Teacher | Student):
            self._train(step.wave, artifacts, machine)
        elif isinstance(artifacts[0], Completions | Evaluation) and step.wave == "datasets":
            self._generate(artifacts, machine)
        else:  # rules rewrite rows in tasks, and models on engines
            self._in_tasks(step, [a for a in artifacts if step_of(a).by == "tasks"])
            self._on_engines(step, [a for a in artifacts if step_of(a).by != "tasks"], machine)

    def _train(self, wave: Wave, models: Sequence[Teacher | Student], machine: Machine) -> None:
        """Trains models: those of local references in worker groups, those of a provider by its jobs."""
        from undertow.stages import grouping, provider_jobs
        from undertow.stages.ready_groups import train
        from undertow.stages.training_listener import TrainingListener
        from undertow.sweep.training_progress import TrainingProgress

        study = self.plan.study
        local = [model for model in models if not model.reference.is_api]
        machine = machine.for_models(tiny=all(is_nano(model.reference) for model in local))
        remote = [model for model in models if model.reference.is_api]
        groups = grouping.groups(local, machine.slots, study.probed, study.system)
        by_key = {key(model): model for model in models}
        remote_shares = {key(model): 0.0 for model in remote}  # the done share of each provider's job
        epochs: dict[str, list[Any]] = {}
        trainings = TrainingProgress(groups)
        with self._step(
            wave, len(models), "models", wave, lanes=trainings.lanes, slots=machine.slots
        ) as progress:
            trainings.progress = progress

            def advance(model_key: str, to: float) -> None:
                progress.advance(to - remote_shares[model_key])
                remote_shares[model_key] = to

            def on_epoch(epoch: Any) -> None:
                model = by_key[epoch.key]
                epochs.setdefault(epoch.key, []).append(epoch)
                trainings.epoch(epoch)
                progress.tokens[model.kind] += round(epoch.tokens_per_second * epoch.seconds)
                self.link.log_epoch(model, asdict(epoch))

            def on_step(report: Any) -> None:
                trainings.step(report)
                self.link.log_step(by_key[report.key], asdict(report))

            def on_note(model_key: str, text: str) -> None:
                # Models of one recipe deviate from it in the same way: the console shows each text once.
                if not any(event.get("text") == text for event in self.events.events):
                    print_line(text, self.console)
                self.events.event("noted", by_key[model_key], text=text)

            listener = TrainingListener(
                on_epoch=on_epoch, on_step=on_step, on_made=trainings.made, on_note=on_note
            )
            jobs = provider_jobs.Jobs(remote, self.store, advance)
            jobs.begin()  # first, because they take hours and no resources of this machine
            failures: dict[str, str] = {}
            if groups:
                failures |= train(groups, self.store, machine, listener)
                self.link.flush_reports()
            for model in local:
                is_made = trainings.is_made(key(model))
                progress.record(model, *training_totals(model, epochs.get(key(model), []), is_made))
            failures |= jobs.finish()
            for model in models:
                if self.store.has(model):  # also one that failed before its group was trained again
                    self.events.event("made", model)
                else:
                    progress.fail()
                    self.events.fail(model, failures.get(key(model), "its training ended without a result"))
            timings.add(self.store, wave, progress.work)

    def _in_tasks(self, step: Step, artifacts: Sequence[Artifact]) -> None:
        """Makes artifacts that need a CPU and no engine, each in its own Ray task, after asking judges."""
        self._judge(step.wave, [a for a in artifacts if isinstance(a, Dataset | Assessment)])
        possible = [artifact for artifact in artifacts if not failed_by(artifact, self.events.failures)]
        if not possible:
            return
        from undertow.cluster.tasks import run_each

        with self._step(step.name, len(possible), kind_of(possible[0]).unit, step.wave) as progress:
            for artifact, failure in run_each(stage_of(possible[0]), self.store, possible):
                progress.advance()
                if failure:
                    progress.fail()
                    self.events.fail(artifact, *failure)
                else:
                    self.events.event("made", artifact)

    def _on_engines(self, step: Step, artifacts: Sequence[Artifact], machine: Machine) -> None:
        """Makes artifacts on engines; those whose inputs are damaged, or that no task makes, fail alone."""
        tasks = []
        for artifact in artifacts:
            try:
                tasks.append(engine_task(artifact, 0, self.store, 0.0, ()))
            except (ConditionError, StorageError) as error:
                self.events.fail(artifact, str(error))
        if not tasks:
            return
        if isinstance(artifacts[0], RowScores):
            self._run(step.name, "rows", tasks, machine, step.wave, lambda task: units(task.artifact))
        else:
            self._run(step.name, kind_of(artifacts[0]).unit, tasks, machine, step.wave)

    def _judge(self, wave: Wave, artifacts: Sequence[Dataset | Assessment]) -> None:
        """Asks language models about rows or answers; the store keeps their replies for the stages."""
        if not artifacts:
            return
        from undertow.stages.judgements import judge_all, models_of

        todo = [artifact for artifact in artifacts if models_of(artifact)]
        if not todo:
            return
        unit = "datasets" if isinstance(todo[0], Dataset) else "answers"
        with self._step(f"judgements of {unit}", len(todo), unit, wave) as progress:
            for judged in judge_all(todo, self.store, progress.advance):
                for facts in judged.asked:
                    self.events.event("judged", judged.artifact, **facts)
                if judged.failure:
                    progress.fail()
                    self.events.fail(judged.artifact, judged.failure, judged.traceback)

    def _generate(self, missing: Sequence[Sampled], machine: Machine) -> None:
        """Samples every missing shard of every teacher, then joins the shards to completions.

        The shards of teachers without a gate (control teachers) come first, then the evaluations of the other
        teachers, then their shards.
        """
        from undertow.stages.completions import GenerateShard, join_shards, shards
        from undertow.stages.evaluation import Evaluate

        completions = [artifact for artifact in missing if isinstance(artifact, Completions)]
        gated: list[Any] = [Evaluate(artifact) for artifact in missing if isinstance(artifact, Evaluation)]
        free: list[Any] = []
        for spec in completions:
            parts = self.store.parts(spec)
            checks = self.gates.get(spec.teacher, ())
            all_shards = shards(spec, self.plan.study.gate, checks)
            some = gated if checks else free
            some += [shard for shard in all_shards if shard.name not in parts]
        tasks = [*free, *gated]

        def rows(task: Any) -> int:
            return task.stop - task.start if isinstance(task, GenerateShard) else 0

        if any(map(rows, tasks)):
            self._run("datasets", "rows", tasks, machine, "datasets", rows)
        else:
            self._run("datasets", "teacher checks", tasks, machine, "datasets")
        for spec in completions:
            # A failed shard is recorded as a failure of its completions; the other shards are kept as parts.
            if failed_by(spec, self.events.failures):
                continue
            parts = self.store.parts(spec)
            if lacking := [shard for shard in shards(spec, 0.0, ()) if shard.name not in parts]:
                self.events.fail(spec, f"{len(lacking)} of its shards were not generated")
            else:
                join_shards(spec, self.store)

    def _run(
        self,
        step: str,
        unit: str,
        tasks: Sequence[Any],
        machine: Machine,
        wave: Wave,
        size: Callable[[Any], int] = lambda task: 1,
    ) -> None:
        """Runs tasks, each on an engine of its reference model, and measures their pace for later plans.

        Args:
            size: how many of the units, which the progress counts, a task makes.
        """
        by_reference: dict[Reference, list[Any]] = {}
        for task in tasks:
            by_reference.setdefault(_engine_of(task.artifact), []).append(task)
        pools = EnginePools(by_reference, machine, size)
        with self._step(
            step,
            sum(map(size, tasks)),
            unit,
            wave,
            lanes=pools.lanes,
            slots=pools.slots,
            artifacts=len(tasks),
        ) as progress:
            self._on_pools(pools, progress)
            timings.add(self.store, wave, progress.work)

    def _on_pools(self, pools: EnginePools, progress: Progress) -> None:
        """Runs the pipelines of several reference models concurrently where there are engines for them.

        API models are asked from this thread, one after the other, so that Ctrl-C interrupts the calls.
        """
        from undertow.cluster.engine_pool import EngineStartError
        from undertow.cluster.interrupts import StoppedError, stopped_on_error
        from undertow.cluster.worker_failures import ENGINES, LOST_NODES, in_words, lost_node

        def drive(item: tuple[Reference, Sequence[Any]]) -> None:
            reference, left, lost = item[0], dict(enumerate(item[1])), 0
            while True:
                before = len(left)
                try:
                    self._on_pool(reference, left, pools, progress)
                    return
                except StoppedError:
                    return  # the sweep ends; what interrupted it is raised in the main thread
                except EngineStartError as error:
                    reason, trace = f"failed to start: {error}", error.traceback
                except Exception as error:  # the pipeline itself: an engine died
                    lost = lost + 1 if len(left) == before else 1  # in a row, without a task that ended
                    if lost <= LOST_NODES and lost_node(error):
                        continue  # Ray Data restarts an engine a few times, whatever ended it
                    reason, trace = f"failed: {in_words(error, ENGINES, lost)}", traceback.format_exc()
                progress.fail(sum(map(pools.size, left.values())))
                for task in left.values():
                    self.events.fail(task.artifact, f"the engine of {reference.name} {reason}", trace)
                return

        with ThreadPoolExecutor(pools.concurrent) as threads, stopped_on_error():
            futures = [threads.submit(drive, item) for item in pools.local.items()]
            try:
                for item in pools.remote.items():
                    drive(item)
                for future in futures:
                    future.result()
            finally:
                # Cancels pipelines that have not started. `stopped_on_error` ends the running ones before the
                # executor waits for its threads.
                threads.shutdown(wait=False, cancel_futures=True)

    def _on_pool(
        self, reference: Reference, left: dict[int, Any], pools: EnginePools, progress: Progress
    ) -> None:
        """Runs tasks on one pool of engines, and removes each from `left` when it ends."""
        from undertow.cluster.engine_pool import run_tasks

        # Outcomes arrive in any order. After a lost node, `drive` calls this again with the tasks in `left`.
        numbers = list(left)
        for outcome in run_tasks(reference, self.store, list(left.values()), pools.machine):
            task = left.pop(numbers[outcome.task])
            artifact = task.artifact
            tokens = outcome.facts.get("tokens", 0)
            pools.count(reference, task, outcome.seconds, tokens, bool(outcome.error))
            speed = pools.tokens_per_second
            progress.detail = f"{speed:,.0f} tok/s" if speed else ""
            progress.advance(pools.size(task))
            progress.tokens[artifact.kind] += tokens
            progress.record(artifact, outcome.seconds, outcome.units, tokens)
            if engine_for(reference).is_metered:
                self.events.event("asked", artifact, **outcome.facts)
            if outcome.error:
                progress.fail(pools.size(task))
                self.events.fail(artifact, outcome.error, outcome.traceback)
            elif outcome.retried:
                self.events.event("retried", artifact, traceback=outcome.retried)

    @contextmanager
    def _step(
        self,
        name: str,
        total: int,
        unit: str,
        wave: Wave,
        *,
        lanes: Sequence[Lane] = (),
        slots: int = 1,
        artifacts: int | None = None,
    ) -> Iterator[Progress]:
        """The progress of one step of a wave; its seconds go into the event log, which is then written.

        Args:
            lanes, slots: see `Progress`.
            artifacts: the number of tasks for the event log, if `unit` is something else.
        """
        with Progress(self.console, name, total, unit, lanes, slots) as progress:
            try:
                yield progress
            finally:
                tokens = sum(progress.tokens.values())
                count = total if artifacts is None else artifacts
                self.events.wave(name, count, progress.seconds, tokens, part_of=wave)
                self.events.write()


def leased_by(artifact: Artifact) -> Artifact:
    """The artifact whose lease covers it: the sweep that checks a teacher's trait also samples its data."""
    if isinstance(artifact, Completions):
        return artifact.teacher
    if isinstance(artifact, Evaluation) and isinstance(artifact.subject, Teacher):
        return artifact.subject
    return artifact


def _engine_of(artifact: Artifact) -> Reference:
    """The reference model whose engine makes an artifact."""
    reference = runs_on(artifact)
    if reference is None:
        raise TypeError(f"{type(artifact).__name__}: a kind with `task` needs `runs_on`")
    return reference


def training_totals(
    model: Teacher | Student, epochs: Sequence[Any], is_made: bool
) -> tuple[float, float, float]:
    """Seconds, units and tokens of a model's reported epochs; an epoch that was repeated counts once."""
    # A group that lost its node repeats epochs: their seconds were spent, but their units are not made twice.
    seconds, passed = sum(epoch.seconds for epoch in epochs), {e.epoch: e for e in epochs if e.epoch}
    if not passed or not is_made:
        return seconds, 0.0, 0.0
    tokens = sum(epoch.tokens_per_second * epoch.seconds for epoch in passed.values())
    return seconds, units(model) * len(passed) / max(passed), tokens

"""A study from plan to table: its missing artifacts, made in waves on Ray.

    references → teachers → datasets (each teacher measured first) → students → evaluations → effects

Work is shared over the grid, not done per condition: one pool of engines a reference model samples from all
its teachers and, later, from all its students. A condition that fails stops nothing else; what depends on
the failure is left out, named at the end, and the exit code says so. What is in the store is never made
again: a sweep whose plan has nothing missing does not even start Ray.
"""

import json
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape

from undertow import plan as planning
from undertow import timings
from undertow.cluster import Machine, connect, quiet
from undertow.errors import ConditionError, UserError, last_line
from undertow.identity import key
from undertow.plan import Plan, failed_by, reference_of
from undertow.progress import Wave
from undertow.report import figures, results, tables
from undertow.runs import tracking_uri
from undertow.spec import Artifact, Completions, Dataset, Evaluation, Reference, Student, Teacher
from undertow.stages.gate import passes_gate
from undertow.stages.reference import is_made, make_reference, resolve
from undertow.store import Store
from undertow.study import Study
from undertow.tracking.tracker import Tracker

T = TypeVar("T", bound=Artifact)


@dataclass(frozen=True)
class Outcome:
    """What a sweep came to: its rows of effects, and the reasons of what failed, by artifact key."""

    rows: list[results.Row]
    failures: Mapping[str, str]
    failed_conditions: Mapping[str, str]


def make_plan(study: Study, store: Store) -> Plan:
    """The plan of a study as its file gives it: references pinned, cached artifacts found."""
    resolved = resolve(study)
    references = {r for c in resolved.conditions for r in (c.teacher, c.student) if is_made(r)}
    return planning.make(resolved, store, references)


def show_plan(plan: Plan, store: Store, console: Console) -> None:
    """Prints the conditions, what is cached and missing, and the estimated time."""
    console.print(tables.plan_table(plan))
    console.print(
        tables.work_table(
            plan.work(timings.read(store, map(planning.reference_name, plan.artifacts.values())))
        )
    )


def run(plan: Plan, store: Store, console: Console, workers: int = 1) -> Outcome:
    """Makes what is missing, logs it, prints the table of effects and leaves the sweep's files."""
    if workers < 1:
        raise UserError(f"--workers {workers}: at least 1 is needed")
    tracking_uri(store)
    store.prepare()
    quiet()
    with nullcontext() if plan.is_complete else connect(workers) as machine:
        sweep = _Sweep(plan, store, Tracker(plan.study, store), console)
        try:
            if machine is not None:
                sweep.make(machine)
            sweep.check_gates()
            sweep.log_models()
            return sweep.finish()
        except BaseException:
            sweep.tracker.abandon()
            raise


@dataclass
class _Sweep:
    """One sweep's state: what failed so far, and what happened when."""

    plan: Plan
    store: Store
    tracker: Tracker
    console: Console
    failures: dict[str, str] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    folder: str = ""

    def __post_init__(self) -> None:
        self.folder = f"sweeps/{self.plan.study.name}/{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
        self._event("planned", missing=len(self.plan.missing))

    def make(self, machine: Machine) -> None:
        """The waves, in order; each takes what the failures so far leave possible."""
        self._on_tasks("references", "models", make_reference, self._possible(Reference))
        self._train("teachers", Teacher, machine)
        self._datasets(machine)
        self._train("students", Student, machine)
        self._evaluations(machine)

    def finish(self) -> Outcome:
        """Effects from the store, as table, CSV and figures, in MLflow too, and the list of what failed."""
        rows = results.effects(self.plan, self.store, self.failures)
        self.console.print(tables.effects_table(rows))
        self._event("finished", failures=self.failures)
        files = {
            "plan.json": self.plan.to_json().encode(),
            "effects.csv": results.to_csv(self.plan.study.name, rows).encode(),
            "events.json": json.dumps(self.events, indent=1).encode(),
            **(figures.draw(rows, self.plan.study) if rows else {}),
        }
        for name, content in files.items():
            self.store.write_bytes(f"{self.folder}/{name}", content)
        failed = self._failed_conditions()
        effects = {f"effect {row.condition.label}": row.effect.effect for row in rows}
        self.tracker.close(effects, files, failed=bool(failed))
        self.console.print(f"Written to {self.store.url}/{self.folder}: {', '.join(files)}", soft_wrap=True)
        for label, reason in failed.items():
            self.console.print(
                f"[red]failed[/red] {escape(label)}: {escape(reason)}", highlight=False, soft_wrap=True
            )
        return Outcome(rows, self.failures, failed)

    def _possible(self, kind: type[T]) -> list[T]:
        """The missing artifacts of a kind whose ancestors did not fail and that are not made meanwhile."""
        return [a for a in self.plan.lacking(kind) if not failed_by(a, self.failures)]

    def _on_tasks(
        self, name: str, unit: str, make: Callable[[T, Store], object], artifacts: Sequence[T]
    ) -> None:
        """Makes artifacts that need a CPU and no engine, each in a Ray task of its own."""
        if not artifacts:
            return
        import ray

        with self._wave(name, len(artifacts), unit) as wave:
            task = ray.remote(num_cpus=1)(make)
            waiting = {task.remote(artifact, self.store): artifact for artifact in artifacts}
            for artifact in _completed(waiting, self._fail):
                self._event("made", artifact=artifact)
                wave.advance()

    def _train(self, name: str, kind: type[Teacher] | type[Student], machine: Machine) -> None:
        models = self._possible(kind)
        if not models:
            return
        from undertow.stages import finetuning

        study = self.plan.study
        watch = next(iter(study.questions.items()))
        todo = finetuning.groups(models, machine.slots, watch, study.system)
        by_key = {key(model): model for model in models}
        progress = dict.fromkeys(by_key, 0.0)
        with self._wave(name, len(models), "models") as wave:

            def advance(model_key: str, to: float) -> None:
                wave.advance(to - progress[model_key])
                progress[model_key] = to

            def report(epoch: Any) -> None:
                model = by_key[epoch.key]
                advance(epoch.key, epoch.epoch / (finetuning.recipe_of(model).epochs + 1))
                try:
                    self.tracker.epoch(model, asdict(epoch))
                except Exception as error:  # MLflow is away; the epochs are in the model's history
                    self._event("untracked", artifact=model, reason=last_line(error))

            failures = finetuning.train(todo, self.store, machine, report, lambda made: advance(made, 1.0))
            for model in models:
                if key(model) in failures or not self.store.has(model):
                    self._fail(model, failures.get(key(model), "its training ended without a result"))
                else:
                    self._event("made", artifact=model)
            timings.add(self.store, name, models, wave.seconds)

    def _datasets(self, machine: Machine) -> None:
        from undertow.stages.dataset import make_dataset

        completions = self._possible(Completions)
        gates = [e for e in self._possible(Evaluation) if isinstance(e.subject, Teacher)]
        if completions or gates:
            self._generate(completions, gates, machine)
        self._join(self._possible(Completions))
        self._on_tasks("filters", "datasets", make_dataset, self._possible(Dataset))
        self.check_gates()

    def check_gates(self) -> None:
        """Fails teachers below the study's gate, those whose data another study had made included."""
        for evaluation in {e for cell in self.plan.cells for e in cell.teacher_evaluations}:
            if self.store.has(evaluation):
                try:
                    passes_gate(evaluation, self.store, self.plan.study.gate)
                except ConditionError as error:
                    self._fail(evaluation.subject, str(error))

    def _generate(self, completions: list[Completions], gates: list[Evaluation], machine: Machine) -> None:
        """Every missing shard of every teacher, one pipeline a reference model."""
        from undertow.stages.dataset import shards
        from undertow.stages.evaluation import Evaluate

        gate = self.plan.study.gate
        tasks: dict[Reference, list[Any]] = {}
        evaluated: dict[Teacher, tuple[Evaluation, ...]] = {
            c.teacher: c.teacher_evaluations for c in self.plan.cells
        }
        for evaluation in gates:
            tasks.setdefault(reference_of(evaluation.subject), []).append(Evaluate(evaluation))
        for spec in completions:
            parts = self.store.parts(spec)
            missing = [s for s in shards(spec, gate, evaluated[spec.teacher]) if s.name not in parts]
            tasks.setdefault(spec.teacher.reference, []).extend(missing)
        with self._wave("datasets", sum(map(len, tasks.values())), "shards and teacher checks") as wave:
            self._on_engines(tasks, machine, wave)
            timings.add(self.store, "datasets", completions, wave.seconds)

    def _join(self, completions: list[Completions]) -> None:
        from undertow.stages.dataset import join_shards, shards

        for spec in completions:
            lacking = [s for s in shards(spec, 0.0, ()) if s.name not in self.store.parts(spec)]
            if lacking:
                self._fail(spec, f"{len(lacking)} of its shards were not generated")
            else:
                join_shards(spec, self.store)

    def _evaluations(self, machine: Machine) -> None:
        from undertow.stages.evaluation import Evaluate

        missing = self._possible(Evaluation)
        tasks: dict[Reference, list[Any]] = {}
        for evaluation in missing:
            tasks.setdefault(reference_of(evaluation.subject), []).append(Evaluate(evaluation))
        if missing:
            with self._wave("evaluations", len(missing), "models") as wave:
                self._on_engines(tasks, machine, wave)
                timings.add(self.store, "evaluations", missing, wave.seconds)

    def _on_engines(self, tasks: Mapping[Reference, Sequence[Any]], machine: Machine, wave: Wave) -> None:
        """All references' pipelines at the same time where there are engines for them, else in turn."""
        from undertow.stages.engine_pool import run_tasks

        tasks = {reference: todo for reference, todo in tasks.items() if todo}
        if not tasks:
            return
        together = min(len(tasks), machine.actors)
        share = machine.share(together)

        def drive(item: tuple[Reference, Sequence[Any]]) -> None:
            reference, todo = item
            left = dict(enumerate(todo))
            try:
                for outcome in run_tasks(reference, self.store, todo, share):
                    artifact = left.pop(outcome.task).artifact
                    wave.advance()
                    if outcome.error:
                        self._fail(artifact, outcome.error, outcome.traceback)
                    elif outcome.retried:
                        self._event("retried", artifact=artifact, traceback=outcome.retried)
            except Exception as error:  # the pipeline itself: an engine cannot start, or dies
                reason = f"the engine of {reference.name} failed: {last_line(error)}"
                for task in left.values():
                    self._fail(task.artifact, reason, traceback.format_exc())

        threads = ThreadPoolExecutor(together)
        try:
            for future in [threads.submit(drive, item) for item in tasks.items()]:
                future.result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def log_models(self) -> None:
        """Ends the MLflow runs of datasets, and of teachers and students with what they came to."""
        for dataset in (a for a in self.plan.artifacts.values() if isinstance(a, Dataset)):
            if not self.tracker.is_done(dataset) and not failed_by(dataset, self.failures):
                manifest = self.store.manifest(dataset)
                counts = {name: float(manifest.facts[name]) for name in ("completions", "kept", "rows")}
                self.tracker.finish(dataset, manifest, counts)
        for cell in self.plan.cells:
            for model, evaluations in (
                (cell.teacher, cell.teacher_evaluations),
                (cell.student, cell.evaluations),
            ):
                if isinstance(model, Teacher) and model.finetuning is None:
                    continue
                if self.tracker.is_done(model):
                    continue
                if any(failed_by(evaluation, self.failures) for evaluation in evaluations):
                    self.tracker.fail(model)
                    continue
                self.tracker.finish(
                    model, self.store.manifest(model), results.metrics(cell, evaluations, self.store)
                )

    def _failed_conditions(self) -> dict[str, str]:
        failed: dict[str, str] = {}
        for cell in self.plan.cells:
            for artifact in cell.artifacts():
                if reason := failed_by(artifact, self.failures):
                    failed.setdefault(cell.condition.label, reason)
        return failed

    def _fail(self, artifact: Artifact, reason: str, trace: str = "") -> None:
        if key(artifact) in self.failures:
            return
        self.failures[key(artifact)] = reason
        if isinstance(artifact, Evaluation) and isinstance(artifact.subject, Teacher):
            self.failures.setdefault(key(artifact.subject), reason)  # a teacher not measured passes no gate
        self._event("failed", artifact=artifact, reason=reason, traceback=trace)

    def _event(self, what: str, artifact: Artifact | None = None, **facts: Any) -> None:
        event: dict[str, Any] = {"time": round(time.time(), 3), "event": what, **facts}
        if artifact is not None:
            event |= {"kind": artifact.kind, "key": key(artifact)}
        self.events.append(event)

    def _wave(self, name: str, total: int, unit: str) -> Wave:
        return Wave(self.console, name, total, unit)


def _completed(waiting: dict[Any, T], fail: Callable[[T, str, str], None]) -> Iterator[T]:
    """Artifacts as their Ray tasks finish; failures go to `fail`."""
    import ray

    while waiting:
        (ready,), _ = ray.wait(list(waiting), num_returns=1)
        artifact = waiting.pop(ready)
        try:
            ray.get(ready)
            yield artifact
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            ours = "" if isinstance(cause, (UserError, ConditionError)) else str(error)
            fail(artifact, str(cause), ours)

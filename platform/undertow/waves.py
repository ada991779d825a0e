"""The waves of a sweep: what is missing is made on Ray, shared over the grid, and failures are noted.

    references → teachers → datasets (each teacher measured first) → students → evaluations
                            ↑_____ once more for each hop of a chain ____|

One pool of engines a reference model samples from all its teachers and, later, from all its students. A
wave takes what the failures so far leave possible; what depends on a failure is left out.
"""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from rich.console import Console

from undertow import timings
from undertow.cluster import Machine
from undertow.errors import ConditionError, StorageError, UserError
from undertow.identity import key
from undertow.journal import Journal
from undertow.plan import Plan, failed_by, reference_of, waits
from undertow.progress import Wave
from undertow.spec import (
    Artifact,
    Assessment,
    Completions,
    Dataset,
    Evaluation,
    Reference,
    Student,
    Teacher,
    Written,
)
from undertow.stages.gate import passes_gate
from undertow.stages.reference import make_reference
from undertow.store import Store
from undertow.tracking.link import Link

T = TypeVar("T", bound=Artifact)


@dataclass(frozen=True)
class Waves:
    """A plan's missing artifacts and where to make, note and show them."""

    plan: Plan
    store: Store
    link: Link
    journal: Journal
    console: Console

    def make(self, machine: Machine) -> None:
        """The waves, in order; each takes what the failures so far leave possible."""
        self._on_tasks("references", "models", make_reference, self._possible(Reference))
        self._check_references()
        self._train("teachers", Teacher, machine)
        for _ in range(self.plan.hops):
            self._datasets(machine)
            self._train("students", Student, machine)
        self._evaluations(machine)

    def _check_references(self) -> None:
        """Fails what needs a damaged reference of ours: no engine or worker starts to find that out."""
        made = {reference for reference in self.plan.artifacts.values() if isinstance(reference, Reference)}
        for reference in made:
            if self.store.has(reference):
                try:
                    self.store.fetch(reference)
                except StorageError as error:
                    self.journal.fail(reference, str(error))

    def _possible(self, kind: type[T]) -> list[T]:
        """The missing artifacts of a kind whose ancestors did not fail and that are not made meanwhile.

        What a student of this sweep is to teach comes when that student is there.
        """
        there = self.store.keys(kind.kind)
        lacking = [a for a in self.plan.lacking(kind) if key(a) not in there]
        possible = [a for a in lacking if not failed_by(a, self.journal.failures)]
        if self.plan.hops == 1:
            return possible
        trained = self.store.keys(Student.kind)
        return [a for a in possible if not waits(a, trained)]

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
            for artifact in _completed(waiting, self.journal.fail):
                self.journal.event("made", artifact)
                wave.advance()

    def _train(self, name: str, kind: type[Teacher] | type[Student], machine: Machine) -> None:
        models = self._possible(kind)
        if not models:
            return
        from undertow.stages import finetuning
        from undertow.stages.training_group import recipe_of

        study = self.plan.study
        todo = finetuning.groups(models, machine.slots, study.questions, study.system)
        by_key = {key(model): model for model in models}
        progress = dict.fromkeys(by_key, 0.0)
        with self._wave(name, len(models), "models") as wave:

            def advance(model_key: str, to: float) -> None:
                wave.advance(to - progress[model_key])
                progress[model_key] = to

            def report(epoch: Any) -> None:
                model = by_key[epoch.key]
                advance(epoch.key, epoch.epoch / (recipe_of(model).epochs + 1))
                self.link.tell(lambda tracker: tracker.epoch(model, asdict(epoch)))

            failures = finetuning.train(todo, self.store, machine, report, lambda made: advance(made, 1.0))
            for model in models:
                if key(model) in failures or not self.store.has(model):
                    self.journal.fail(model, failures.get(key(model), "its training ended without a result"))
                else:
                    self.journal.event("made", model)
            timings.add(self.store, name, models, wave.seconds)

    def _datasets(self, machine: Machine) -> None:
        from undertow.stages.dataset import make_dataset, write_answers

        completions = self._possible(Completions)
        # Teachers' answers are drawn by the engine that then samples their data.
        gates = [e for e in self._possible(Evaluation) if isinstance(e.subject, Teacher)]
        if completions or gates:
            self._generate(completions, gates, machine)
        self._join(self._possible(Completions))
        self._on_tasks("programs", "sets of answers", write_answers, self._possible(Written))
        self._judge("datasets", [dataset for dataset in self._possible(Dataset) if dataset.judges])
        # What is mixed into others comes first.
        own = [dataset for dataset in self._possible(Dataset) if dataset.mixed is None]
        self._on_tasks("filters", "datasets", make_dataset, own)
        self._on_tasks("mixtures", "datasets", make_dataset, self._possible(Dataset))
        self._assess([a for a in self._possible(Assessment) if isinstance(a.subject, Teacher)])
        self.check_gates()

    def _judge(self, unit: str, artifacts: Sequence[Dataset | Assessment]) -> None:
        """Asks language models about rows or answers; their replies are then found in the store."""
        from undertow.stages.judgements import judge_all, models_of

        todo = [artifact for artifact in artifacts if models_of(artifact)]
        if not todo:
            return
        with self._wave(f"judgements of {unit}", len(todo), unit) as wave:
            for judged in judge_all(todo, self.store, wave.advance):
                for facts in judged.asked:
                    self.journal.event("judged", judged.artifact, **facts)
                if judged.failure:
                    self.journal.fail(judged.artifact, judged.failure, judged.traceback)

    def _assess(self, assessments: list[Assessment]) -> None:
        """Judges' replies to answers, and the rates that follow."""
        from undertow.stages.assessment import make_assessment

        self._judge("answers", assessments)
        possible = [a for a in assessments if not failed_by(a, self.journal.failures)]
        self._on_tasks("assessments", "models", make_assessment, possible)

    def check_gates(self) -> None:
        """Fails teachers below the study's gate, those whose data another study had made included.

        A judged trait's is known only here, when its judges were asked: its data are drawn by then.
        """
        for evaluation in {e for cell in self.plan.cells for e in cell.teacher_evaluations}:
            if self.store.has(evaluation):
                try:
                    passes_gate(evaluation, self.store, self.plan.study.gate)
                except ConditionError as error:
                    self.journal.fail(evaluation.subject, str(error))
                except StorageError as error:  # its bytes are not those that were written
                    self.journal.fail(evaluation, str(error))

    def _generate(self, completions: list[Completions], gates: list[Evaluation], machine: Machine) -> None:
        """Every missing shard of every teacher, one pipeline a reference model."""
        from undertow.stages.dataset import shards
        from undertow.stages.evaluation import Evaluate

        gate = self.plan.study.gate
        tasks: dict[Reference, list[Any]] = {}
        evaluated: dict[Teacher, tuple[Evaluation, ...]] = {
            c.teacher: tuple(e for e in c.teacher_evaluations if isinstance(e, Evaluation))
            for c in self.plan.cells
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
            parts = self.store.parts(spec)
            if lacking := [s for s in shards(spec, 0.0, ()) if s.name not in parts]:
                self.journal.fail(spec, f"{len(lacking)} of its shards were not generated")
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
        self._assess(self._possible(Assessment))

    def _on_engines(self, tasks: Mapping[Reference, Sequence[Any]], machine: Machine, wave: Wave) -> None:
        """All references' pipelines at the same time where there are engines for them, else in turn."""
        from undertow.stages.deaths import ENGINES, in_words
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
                        self.journal.fail(artifact, outcome.error, outcome.traceback)
                    elif outcome.retried:
                        self.journal.event("retried", artifact, traceback=outcome.retried)
            except Exception as error:  # the pipeline itself: an engine cannot start, or dies
                reason = f"the engine of {reference.name} failed: {in_words(error, ENGINES)}"
                for task in left.values():
                    self.journal.fail(task.artifact, reason, traceback.format_exc())

        threads = ThreadPoolExecutor(together)
        try:
            for future in [threads.submit(drive, item) for item in tasks.items()]:
                future.result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def _wave(self, name: str, total: int, unit: str) -> Iterator[Wave]:
        """A wave's progress; its seconds go into the journal, which is written when it ends."""
        with Wave(self.console, name, total, unit) as wave:
            try:
                yield wave
            finally:
                self.journal.event("wave", name=name, units=total, seconds=round(wave.seconds, 3))
                self.journal.write()


def _completed(waiting: dict[Any, T], fail: Callable[[T, str, str], None]) -> Iterator[T]:
    """Artifacts as their Ray tasks finish; failures go to `fail`."""
    import ray

    from undertow.stages.deaths import in_words

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
        except ray.exceptions.RayError as error:  # its process died
            fail(artifact, in_words(error, "run it where there is more"), str(error))

"""How a wave makes things: on Ray tasks, in worker groups, on engines, or at a provider.

Each way shows its progress, notes in the journal what came of every artifact and never raises for one that
cannot be made. What is to be made, and in which order, is said by the waves.
"""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from rich.console import Console

from undertow.errors import ConditionError, UserError
from undertow.planning import timings
from undertow.planning.plan import Plan, failed_by, units
from undertow.planning.resources import Machine
from undertow.results.events import EventLog
from undertow.storage.store import Store
from undertow.study.artifacts import (
    Artifact,
    Assessment,
    Completions,
    Dataset,
    Evaluation,
    Reference,
    Student,
    Teacher,
    reference_of,
)
from undertow.study.identity import key
from undertow.sweep.progress import Wave, say
from undertow.tracking.link import Link

T = TypeVar("T", bound=Artifact)
Drawn = Completions | Evaluation  # from a teacher


@dataclass(frozen=True)
class Executors:
    """Where what a plan lacks is made, noted and shown."""

    plan: Plan
    store: Store
    link: Link
    journal: EventLog
    console: Console

    def on_tasks(
        self, name: str, unit: str, make: Callable[[T, Store], object], artifacts: Sequence[T]
    ) -> None:
        """Makes artifacts that need a CPU and no engine, each in a Ray task of its own."""
        if not artifacts:
            return
        import ray

        with self._wave(name, len(artifacts), unit) as wave:
            task = ray.remote(num_cpus=1)(make)
            waiting = {task.remote(artifact, self.store): artifact for artifact in artifacts}
            for artifact in completed(waiting, self.journal.fail):
                self.journal.event("made", artifact)
                wave.advance()

    def train(self, name: str, models: Sequence[Teacher | Student], machine: Machine) -> None:
        from undertow.stages import finetuning, provider_jobs
        from undertow.stages.training_group import recipe_of

        study = self.plan.study
        here = [model for model in models if not model.reference.is_api]
        there = [model for model in models if model.reference.is_api]
        todo = finetuning.groups(here, machine.slots, study.questions, study.system)
        by_key = {key(model): model for model in models}
        progress = dict.fromkeys(by_key, 0.0)
        epochs: dict[str, list[Any]] = {}
        with self._wave(name, len(models), "models") as wave:

            def advance(model_key: str, to: float) -> None:
                wave.advance(to - progress[model_key])
                progress[model_key] = to

            def report(epoch: Any) -> None:
                model = by_key[epoch.key]
                epochs.setdefault(epoch.key, []).append(epoch)
                advance(epoch.key, epoch.epoch / (recipe_of(model).epochs + 1))
                wave.tokens[model.kind] += round(epoch.tokens_per_second * epoch.seconds)
                self.link.tell(lambda tracker: tracker.epoch(model, asdict(epoch)))

            def note(model_key: str, text: str) -> None:
                if not any(event.get("text") == text for event in self.journal.events):
                    say(text, self.console)
                self.journal.event("noted", by_key[model_key], text=text)

            jobs = provider_jobs.Jobs(there, self.store, advance)
            jobs.begin()  # they take hours and none of this machine
            failures: dict[str, str] = {}
            if todo:
                made: Callable[[str], None] = lambda model_key: advance(model_key, 1.0)  # noqa: E731
                failures |= finetuning.train(todo, self.store, machine, report, made, note)
            for model in here:
                is_made = progress[key(model)] == 1.0
                wave.did(model, *_trained(model, epochs.get(key(model), []), is_made))
            failures |= jobs.finish()
            for model in models:
                if key(model) in failures or not self.store.has(model):
                    self.journal.fail(model, failures.get(key(model), "its training ended without a result"))
                else:
                    self.journal.event("made", model)
            timings.add(self.store, name, wave.work)

    def filter(self, name: str, datasets: list[Dataset]) -> None:
        """Judges' replies to rows, and the data sets that follow."""
        from undertow.stages.dataset import make_dataset

        self._judge("datasets", [dataset for dataset in datasets if dataset.judges])
        possible = [dataset for dataset in datasets if not failed_by(dataset, self.journal.failures)]
        self.on_tasks(name, "datasets", make_dataset, possible)

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

    def assess(self, assessments: list[Assessment]) -> None:
        """Judges' replies to answers, and the rates that follow."""
        from undertow.stages.assessment import make_assessment

        self._judge("answers", assessments)
        possible = [a for a in assessments if not failed_by(a, self.journal.failures)]
        self.on_tasks("assessments", "models", make_assessment, possible)

    def generate(self, missing: Sequence[Drawn], machine: Machine) -> None:
        """Every missing shard of every teacher, one pipeline a reference model; then whole completions."""
        from undertow.stages.dataset import shards
        from undertow.stages.evaluation import Evaluate

        completions = [artifact for artifact in missing if isinstance(artifact, Completions)]
        gates = [artifact for artifact in missing if isinstance(artifact, Evaluation)]
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
            lacking = [s for s in shards(spec, gate, evaluated.get(spec.teacher, ())) if s.name not in parts]
            tasks.setdefault(reference_of(spec.teacher), []).extend(lacking)
        with self._wave("datasets", sum(map(len, tasks.values())), "shards and teacher checks") as wave:
            self._on_engines(tasks, machine, wave)
            timings.add(self.store, "datasets", wave.work)
        self._join([spec for spec in completions if not failed_by(spec, self.journal.failures)])

    def _join(self, completions: list[Completions]) -> None:
        from undertow.stages.dataset import join_shards, shards

        for spec in completions:
            parts = self.store.parts(spec)
            if lacking := [s for s in shards(spec, 0.0, ()) if s.name not in parts]:
                self.journal.fail(spec, f"{len(lacking)} of its shards were not generated")
            else:
                join_shards(spec, self.store)

    def evaluate(self, missing: Sequence[Evaluation], machine: Machine) -> None:
        from undertow.stages.evaluation import Evaluate

        tasks: dict[Reference, list[Any]] = {}
        for evaluation in missing:
            tasks.setdefault(reference_of(evaluation.subject), []).append(Evaluate(evaluation))
        with self._wave("evaluations", len(missing), "models") as wave:
            self._on_engines(tasks, machine, wave)
            timings.add(self.store, "evaluations", wave.work)

    def _on_engines(self, tasks: Mapping[Reference, Sequence[Any]], machine: Machine, wave: Wave) -> None:
        """All references' pipelines at the same time where there are engines for them, else in turn.

        API models are asked from this thread, one after the other: Ctrl-C then ends the asking.
        """
        from undertow.cluster.interrupts import StoppedError, stopped_on_error
        from undertow.cluster.worker_failures import ENGINES, LOST_NODES, in_words, lost_node

        here = [(reference, todo) for reference, todo in tasks.items() if todo and not reference.is_api]
        there = [(reference, todo) for reference, todo in tasks.items() if todo and reference.is_api]
        together = max(1, min(len(here), machine.actors))
        share = machine.share(together)

        def drive(item: tuple[Reference, Sequence[Any]]) -> None:
            reference, left = item[0], dict(enumerate(item[1]))
            for lost in range(LOST_NODES + 1):
                try:
                    self._on_pool(reference, left, share, wave)
                    return
                except StoppedError:
                    return
                except Exception as error:  # the pipeline itself: an engine cannot start, or dies
                    if lost < LOST_NODES and lost_node(error):
                        continue  # Ray Data starts an engine again a few times, whatever ended it
                    reason = f"the engine of {reference.name} failed: {in_words(error, ENGINES)}"
                    for task in left.values():
                        self.journal.fail(task.artifact, reason, traceback.format_exc())
                    return

        with ThreadPoolExecutor(together) as threads, stopped_on_error():
            futures = [threads.submit(drive, item) for item in here]
            try:
                for item in there:
                    drive(item)
                for future in futures:
                    future.result()
            finally:
                threads.shutdown(wait=False, cancel_futures=True)

    def _on_pool(self, reference: Reference, left: dict[int, Any], machine: Machine, wave: Wave) -> None:
        """Runs tasks on one pool of engines, and takes each out of `left` as it ends."""
        from undertow.cluster.engine_pool import run_tasks

        numbers = list(left)
        for outcome in run_tasks(reference, self.store, list(left.values()), machine):
            artifact = left.pop(numbers[outcome.task]).artifact
            wave.advance()
            tokens = outcome.facts.get("tokens", 0)
            wave.tokens[artifact.kind] += tokens
            wave.did(artifact, outcome.seconds, outcome.units, tokens)
            if reference.is_api:
                self.journal.event("asked", artifact, **outcome.facts)
            if outcome.error:
                self.journal.fail(artifact, outcome.error, outcome.traceback)
            elif outcome.retried:
                self.journal.event("retried", artifact, traceback=outcome.retried)

    @contextmanager
    def _wave(self, name: str, total: int, unit: str) -> Iterator[Wave]:
        """A wave's progress; its seconds go into the journal, which is written when it ends."""
        with Wave(self.console, name, total, unit) as wave:
            try:
                yield wave
            finally:
                self.journal.wave(name, total, wave.seconds, sum(wave.tokens.values()))
                self.journal.write()


def _trained(model: Teacher | Student, epochs: Sequence[Any], is_made: bool) -> tuple[float, float, float]:
    """Seconds, units and tokens of the epochs that were reported; of one that was trained again once."""
    seconds, passed = sum(epoch.seconds for epoch in epochs), {e.epoch: e for e in epochs if e.epoch}
    if not passed or not is_made:
        return seconds, 0.0, 0.0
    tokens = sum(epoch.tokens_per_second * epoch.seconds for epoch in passed.values())
    return seconds, units(model) * len(passed) / max(passed), tokens


def completed(waiting: dict[Any, T], fail: Callable[[T, str, str], None]) -> Iterator[T]:
    """Artifacts as their Ray tasks finish; failures go to `fail`."""
    import ray

    from undertow.cluster.worker_failures import TASKS, in_words

    while waiting:
        (ready,), _ = ray.wait(list(waiting), num_returns=1)
        artifact = waiting.pop(ready)
        try:
            ray.get(ready)
            yield artifact
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, (UserError, ConditionError)):
                fail(artifact, str(cause), "")
            else:
                fail(artifact, in_words(cause, TASKS), str(error))
        except ray.exceptions.RayError as error:  # its process died
            fail(artifact, in_words(error, TASKS), str(error))

"""The waves of a sweep: makes each missing artifact once for the whole grid, on Ray, and records failures.

    references → teachers → datasets (each teacher is measured first) → students → evaluations
    ↑________________ repeated for each hop of a chain ________________|

One pool of engines per reference model samples from all its teachers and, later, from all its students. API
models are called and trained at their provider while the machine works on the others. A wave leaves out the
artifacts that depend on a failed one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from undertow.errors import ConditionError, StorageError
from undertow.planning.artifact_kinds import Wave, extensions, wave_of
from undertow.planning.plan import Plan, failed_by, waits
from undertow.planning.resources import Machine
from undertow.results.events import EventLog
from undertow.stages.gate import passes_gate
from undertow.stages.reference import make_reference
from undertow.storage.leases import Leases
from undertow.storage.store import Store
from undertow.study.completions import Completions, ImportedCompletions, Written
from undertow.study.datasets import Dataset
from undertow.study.identity import key
from undertow.study.measurements import Assessment, Evaluation
from undertow.study.references import Artifact, Reference
from undertow.study.rewriting import Rewritten
from undertow.study.row_scores import RowScores
from undertow.study.steering import ProjectedOut, RandomBias, SteeringBias, SteeringVector
from undertow.study.students import Student
from undertow.study.teachers import Teacher
from undertow.sweep.executors import Executors, Sampled
from undertow.sweep.progress import print_line

T = TypeVar("T", bound=Artifact)


@dataclass(frozen=True)
class Waves:
    """Makes a plan's missing artifacts, each once, also if other sweeps work on the same storage.

    Attributes:
        trained: keys of the students that existed when the round began. Artifacts that are made from other
            students wait for the next round, because a round makes data and merged weights before students.
    """

    executors: Executors
    leases: Leases
    trained: set[str] = field(default_factory=set)

    @property
    def plan(self) -> Plan:
        return self.executors.plan

    @property
    def store(self) -> Store:
        return self.executors.store

    @property
    def events(self) -> EventLog:
        return self.executors.events

    def make(self, machine: Machine) -> None:
        """Runs the waves in order, one round for each hop of a chain, then the evaluations."""
        self.events.gpus = machine.gpus
        # Evaluations come last, so that the engines of a reference model start once for all rounds.
        for _ in range(self.plan.hops):
            self.begin_round()
            self._references(machine)
            self._train("teachers", Teacher, machine)
            self._steer(machine)
            self._datasets(machine)
            self._train("students", Student, machine)
        self.begin_round()
        self._evaluations(machine)

    def begin_round(self) -> None:
        """Begins a round: artifacts that are made from the existing students become possible."""
        self.trained.update(self.store.keys(Student.kind))

    def _references(self, machine: Machine) -> None:
        """Makes nano models, and merges adapters of students that other models start from.

        Then measures the steering vectors of reference models.
        """
        from undertow.stages.steering import make_vector

        def make(references: Sequence[Reference]) -> None:
            self.executors.on_tasks("references", "models", make_reference, references, "references")

        self._share(partial(self.possible, Reference), make)
        self.check_references()

        def measure(vectors: Sequence[SteeringVector]) -> None:
            self.executors.on_tasks("steering vectors", "vectors", make_vector, vectors, "references")

        self._share(partial(self.possible, SteeringVector), measure)
        self._registered("references", machine)

    def check_references(self) -> None:
        """Records damaged reference models as failed before an engine or a worker starts on them."""
        for artifact in self.plan.artifacts.values():
            if isinstance(artifact, Reference) and self.store.has(artifact):
                try:
                    self.store.check(artifact)
                except StorageError as error:
                    self.events.fail(artifact, str(error))

    def possible(self, kind: type[T]) -> list[T]:
        """The missing artifacts of a kind whose inputs exist, or can be made in this round."""
        made = self.store.keys(kind.kind)
        missing = [a for a in self.plan.lacking(kind) if key(a) not in made]
        possible = [a for a in missing if not failed_by(a, self.events.failures)]
        if self.plan.hops == 1:
            return possible  # `waits` walks over all ancestors, which large studies without a chain can skip
        return [a for a in possible if not waits(a, self.trained)]

    def _share(
        self,
        possible: Callable[[], Sequence[T]],
        make: Callable[[list[T]], object],
        by: Callable[[T], Artifact] = lambda artifact: artifact,
    ) -> None:
        """Makes the possible artifacts, shared with other sweeps on the same storage (see `Leases.share`)."""
        self.leases.share(possible, make, lambda line: print_line(line, self.executors.console), by)

    def _train(self, wave: Wave, kind: type[Teacher] | type[Student], machine: Machine) -> None:
        def make(models: Sequence[Teacher | Student]) -> None:
            self.executors.train(wave, models, machine)

        self._share(lambda: self.possible(kind), make)
        self._registered(wave, machine)

    def _steer(self, machine: Machine) -> None:
        """Chooses the strengths of steering vectors, then makes the controls of steered teachers."""
        from undertow.stages.steering import make_projection, make_random_bias

        self._share(partial(self.possible, SteeringBias), lambda some: self.executors.steer(some, machine))

        def draw(biases: Sequence[RandomBias]) -> None:
            self.executors.on_tasks("random steering", "vectors", make_random_bias, biases, "teachers")

        self._share(partial(self.possible, RandomBias), draw)

        def project(directions: Sequence[ProjectedOut]) -> None:
            self.executors.on_tasks("projections", "vectors", make_projection, directions, "teachers")

        self._share(partial(self.possible, ProjectedOut), project)

    def _datasets(self, machine: Machine) -> None:
        from undertow.stages.completions import import_rows, write_answers

        # The engine that holds a teacher checks its trait, then samples its data.
        self._share(self._sampled, lambda some: self.executors.generate(some, machine), by=_teacher_of)

        def write(written: Sequence[Written]) -> None:
            self.executors.on_tasks("programs", "sets of answers", write_answers, written, "datasets")

        self._share(partial(self.possible, Written), write)

        def bring_in(imported: Sequence[ImportedCompletions]) -> None:
            self.executors.on_tasks("imports", "sets of rows", import_rows, imported, "datasets")

        self._share(partial(self.possible, ImportedCompletions), bring_in)
        self._share(partial(self.possible, RowScores), lambda some: self.executors.score(some, machine))
        # Data sets that others take rows from come first: those whose rows are rewritten, then those whose
        # rows are the other answers of pairs or are mixed into others.
        self._share(
            partial(self._unmixed, rewritten=False), lambda some: self.executors.filter("filters", some)
        )
        if self.plan.lacking(Rewritten):
            self._share(partial(self.possible, Rewritten), lambda some: self.executors.rewrite(some, machine))
        self._share(
            partial(self._unmixed, rewritten=True),
            lambda some: self.executors.filter("filters after rewriting", some),
        )
        self._share(self._ranked, lambda some: self.executors.filter("ranked pairs", some))
        self._share(partial(self.possible, Dataset), lambda some: self.executors.filter("mixtures", some))
        # Judged traits of teachers: the answers were sampled above, and `check_gates` needs their judgements.
        self._share(
            lambda: [a for a in self.possible(Assessment) if isinstance(a.subject, Teacher)],
            lambda some: self.executors.assess(some, "datasets"),
        )
        self.check_gates()
        self._registered("datasets", machine)

    def _sampled(self) -> list[Sampled]:
        """The missing artifacts that engines sample from teachers: completions and the gate's evaluations."""
        gates = [e for e in self.possible(Evaluation) if isinstance(e.subject, Teacher)]
        return [*self.possible(Completions), *gates]

    def _unmixed(self, rewritten: bool) -> list[Dataset]:
        """The missing data sets without rows of another, made from rewritten rows or from others."""
        return [
            dataset
            for dataset in self.possible(Dataset)
            if dataset.mixed is None
            and dataset.ranked is None
            and isinstance(dataset.completions, Rewritten) is rewritten
        ]

    def _ranked(self) -> list[Dataset]:
        """The missing data sets of pairs of answers."""
        return [dataset for dataset in self.possible(Dataset) if dataset.ranked is not None]

    def check_gates(self) -> None:
        """Records teachers below the study's gate as failed, also if another study made their data.

        A judged trait is known only here, after its judges were asked; the teacher's data exist by then.
        """
        for evaluation in {e for cell in self.plan.cells for e in cell.teacher_evaluations}:
            if self.store.has(evaluation):
                try:
                    passes_gate(evaluation, self.store, self.plan.study.gate)
                except ConditionError as error:
                    self.events.fail(evaluation.subject, str(error))
                except StorageError as error:  # its bytes changed since they were written
                    self.events.fail(evaluation, str(error))

    def _evaluations(self, machine: Machine) -> None:
        self._share(partial(self.possible, Evaluation), lambda some: self.executors.evaluate(some, machine))
        self._share(
            partial(self.possible, Assessment), lambda some: self.executors.assess(some, "evaluations")
        )
        self._registered("evaluations", machine)

    def _registered(self, wave: Wave, machine: Machine) -> None:
        """Makes the artifacts of this wave whose kinds an extension registered (`artifact_kinds`)."""
        for kind in extensions():

            def possible(spec: type[Any] = kind.spec) -> list[Any]:
                return [a for a in self.possible(spec) if type(a) is spec and wave_of(a) == wave]

            self._share(possible, partial(self.executors.by_kind, kind, wave=wave, machine=machine))


def _teacher_of(sampled: Sampled) -> Artifact:
    return sampled.teacher if isinstance(sampled, Completions) else sampled.subject

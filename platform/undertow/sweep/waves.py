"""The waves of a sweep: what is missing is made on Ray, shared over the grid, and failures are noted.

    references → teachers → datasets (each teacher measured first) → students → evaluations
    ↑______________________ once more for each hop of a chain ______________|

One pool of engines a reference model samples from all its teachers and, later, from all its students; API
models are asked and trained where they are served, while the machine works on the others. A wave takes what
the failures so far leave possible; what depends on a failure is left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from undertow.errors import ConditionError, StorageError
from undertow.planning.plan import Plan, failed_by, waits
from undertow.planning.resources import Machine
from undertow.results.events import EventLog
from undertow.stages.gate import passes_gate
from undertow.stages.reference import make_reference
from undertow.storage.leases import Leases
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
    Written,
)
from undertow.study.identity import key
from undertow.sweep.executors import Drawn, Executors
from undertow.sweep.progress import say

T = TypeVar("T", bound=Artifact)


@dataclass(frozen=True)
class Waves:
    """A plan's missing artifacts, how they are made, and which of them are this sweep's to make.

    Attributes:
        trained: the keys of students that were there when the round began: what is made from others waits for
            the next, since its data or its merged weights come before the students of its own round.
    """

    making: Executors
    claims: Leases
    trained: set[str] = field(default_factory=set)

    @property
    def plan(self) -> Plan:
        return self.making.plan

    @property
    def store(self) -> Store:
        return self.making.store

    @property
    def journal(self) -> EventLog:
        return self.making.journal

    def make(self, machine: Machine) -> None:
        """The waves, in order; each takes what the failures so far leave possible and no other sweep has."""
        self.journal.gpus = machine.gpus
        for _ in range(self.plan.hops):
            self.begin_round()
            self._references()
            self._train("teachers", Teacher, machine)
            self._datasets(machine)
            self._train("students", Student, machine)
        self.begin_round()
        self._evaluations(machine)

    def begin_round(self) -> None:
        """Lets what waited for students that are there by now be made."""
        self.trained.update(self.store.keys(Student.kind))

    def _references(self) -> None:
        """Nano models, and students' adapters merged for those that start from them."""
        self._share(
            lambda: self.possible(Reference),
            lambda some: self.making.on_tasks("references", "models", make_reference, some),
        )
        self._check_references()

    def _check_references(self) -> None:
        """Fails what needs a damaged reference of ours: no engine or worker starts to find that out."""
        made = {reference for reference in self.plan.artifacts.values() if isinstance(reference, Reference)}
        for reference in made:
            if self.store.has(reference):
                try:
                    self.store.fetch(reference)
                except StorageError as error:
                    self.journal.fail(reference, str(error))

    def possible(self, kind: type[T]) -> list[T]:
        """The missing artifacts of a kind whose ancestors did not fail and that are not made meanwhile.

        What is made from a student of this sweep comes when that student is there.
        """
        there = self.store.keys(kind.kind)
        lacking = [a for a in self.plan.lacking(kind) if key(a) not in there]
        possible = [a for a in lacking if not failed_by(a, self.journal.failures)]
        if self.plan.hops == 1:
            return possible
        return [a for a in possible if not waits(a, self.trained)]

    def _share(
        self,
        possible: Callable[[], Sequence[T]],
        make: Callable[[list[T]], object],
        by: Callable[[T], Artifact] = lambda artifact: artifact,
    ) -> None:
        """Makes what is possible, with the other sweeps here: each artifact once (see `Leases`)."""
        self.claims.share(possible, make, lambda line: say(line, self.making.console), by)

    def _train(self, name: str, kind: type[Teacher] | type[Student], machine: Machine) -> None:
        self._share(lambda: self.possible(kind), lambda models: self.making.train(name, models, machine))

    def _datasets(self, machine: Machine) -> None:
        from undertow.stages.dataset import write_answers

        # Teachers' answers are drawn by the engine that then samples their data.
        self._share(self._drawn, lambda some: self.making.generate(some, machine), by=_teacher_of)
        self._share(
            lambda: self.possible(Written),
            lambda some: self.making.on_tasks("programs", "sets of answers", write_answers, some),
        )
        # What is mixed into others comes first.
        self._share(
            lambda: [dataset for dataset in self.possible(Dataset) if dataset.mixed is None],
            lambda some: self.making.filter("filters", some),
        )
        self._share(lambda: self.possible(Dataset), lambda some: self.making.filter("mixtures", some))
        self._share(
            lambda: [a for a in self.possible(Assessment) if isinstance(a.subject, Teacher)],
            self.making.assess,
        )
        self.check_gates()

    def _drawn(self) -> list[Drawn]:
        """What is drawn from teachers: their data, and the answers that show their trait."""
        gates = [e for e in self.possible(Evaluation) if isinstance(e.subject, Teacher)]
        return [*self.possible(Completions), *gates]

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

    def _evaluations(self, machine: Machine) -> None:
        self._share(lambda: self.possible(Evaluation), lambda some: self.making.evaluate(some, machine))
        self._share(lambda: self.possible(Assessment), self.making.assess)


def _teacher_of(drawn: Drawn) -> Artifact:
    return drawn.teacher if isinstance(drawn, Completions) else drawn.subject

"""The waves of a sweep: makes each missing artifact once for the whole grid, on Ray, and records failures.

    references → teachers → datasets (each teacher is measured first) → students → evaluations
    ↑________________ repeated for each hop of a chain ________________|

A wave runs its steps in their order (`graph.step_of`). One pool of engines per reference model samples from
all its teachers and, later, from all its students. API models are called and trained at their provider while
the machine works on the others. A step leaves out the artifacts that depend on a failed one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import groupby
from typing import TypeVar

from undertow.errors import ConditionError, StorageError
from undertow.planning.artifact_kinds import WAVES, Wave, wave_of
from undertow.planning.plan import Plan, waits
from undertow.planning.resources import Machine
from undertow.results.events import EventLog
from undertow.stages.gate import passes_gate
from undertow.storage.leases import Leases
from undertow.storage.store import Store
from undertow.study.references import Artifact, Reference
from undertow.study.students import Student
from undertow.sweep.executors import Executors, leased_by
from undertow.sweep.graph import step_of
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
        *in_rounds, last = WAVES
        # Evaluations come last, so that the engines of a reference model start once for all rounds.
        for waves in (*[in_rounds] * self.plan.hops, [last]):
            self.begin_round()
            for wave in waves:
                self._make(wave, machine)

    def begin_round(self) -> None:
        """Begins a round: artifacts that are made from the existing students become possible."""
        self.trained.update(self.store.keys(Student.kind))

    def _make(self, wave: Wave, machine: Machine) -> None:
        """Makes what is possible of a wave, step by step, shared with other sweeps (see `Leases.share`)."""
        self.check_references()
        for artifacts in self._steps:
            if wave_of(artifacts[0]) == wave:
                self.leases.share(
                    partial(self.possible, artifacts),
                    partial(self.executors.make, machine=machine),
                    lambda line: print_line(line, self.executors.console),
                    leased_by,
                )
        if wave == "datasets":
            self.check_gates()

    @cached_property
    def _steps(self) -> list[list[Artifact]]:
        """The missing artifacts by the step that makes them, in the order of the steps."""

        def rank(artifact: Artifact) -> tuple[int, int]:
            return step_of(artifact).rank

        in_order = sorted(self.plan.lacking(Artifact), key=rank)
        return [list(artifacts) for _, artifacts in groupby(in_order, key=rank)]

    def possible(self, artifacts: Sequence[T]) -> list[T]:
        """Those of the artifacts that are missing and whose inputs exist, or can be made in this round."""
        possible = self.executors.possible(artifacts)
        if self.plan.hops == 1:
            return possible  # `waits` walks over all ancestors, which large studies without a chain can skip
        return [artifact for artifact in possible if not waits(artifact, self.trained)]

    def check_references(self) -> None:
        """Records damaged reference models as failed before an engine or a worker starts on them."""
        for artifact in self.plan.artifacts.values():
            if isinstance(artifact, Reference) and self.store.has(artifact):
                try:
                    self.store.check(artifact)
                except StorageError as error:
                    self.events.fail(artifact, str(error))

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

"""What a sweep logs to MLflow at its end: data sets, teachers, students, and artifacts of registered kinds.

Only news is logged: what this sweep made, and what an earlier one made and could not log because it was
killed or MLflow was unreachable. A model with damaged files is not logged: it fails, and its run stays open.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from undertow.errors import StorageError
from undertow.planning.artifact_kinds import kind_of
from undertow.planning.cells import Cell
from undertow.planning.plan import Plan, failed_by
from undertow.results import effect_rows, sweep_folders
from undertow.results.dataset_card import CHOICES, VALID
from undertow.results.evaluation_files import Evaluations
from undertow.results.events import EventLog
from undertow.results.learning_curves import along_metrics
from undertow.results.sweep_record import CellRecord, Record
from undertow.storage.store import Store
from undertow.study.datasets import Dataset
from undertow.study.identity import key
from undertow.study.measurements import Measurement
from undertow.study.references import Artifact
from undertow.study.students import Student
from undertow.study.teachers import Teacher
from undertow.tracking.tracker import Tracker

Both = tuple[Cell, CellRecord]  # a student as planned, and as the record names it


@dataclass(frozen=True)
class FinalLogging:
    """One sweep's news for MLflow."""

    plan: Plan
    record: Record
    store: Store
    tracker: Tracker
    events: EventLog

    def models(self) -> None:
        """Ends the MLflow runs of all artifacts that have one, with their metrics."""
        self._datasets()
        self._registered()
        self._unmeasured()
        evaluations = Evaluations(self.store, self.events.failures)
        both = list(zip(self.plan.cells, self.record.cells, strict=True))
        self._teachers(both, evaluations)
        self._students(both, evaluations)

    def _datasets(self) -> None:
        for dataset in (a for a in self.plan.artifacts.values() if isinstance(a, Dataset)):
            if self._is_news(dataset) and not failed_by(dataset, self.events.failures):
                facts = self._facts(dataset)
                names = ("completions", "kept", "rows", VALID, *CHOICES)
                counts = {name.replace(" ", "_"): float(facts[name]) for name in names if name in facts}
                self._finish(dataset, dataset, counts)

    def _registered(self) -> None:
        """Artifacts whose kinds an extension registered: their numeric facts become metrics."""
        for artifact in self.plan.additional:
            if self._is_news(artifact) and self.store.has(artifact):
                facts = self._facts(artifact)
                names = kind_of(artifact).facts
                numbers = {n: float(facts[n]) for n in names if isinstance(facts.get(n), int | float)}
                self._finish(artifact, artifact, numbers)

    def _unmeasured(self) -> None:
        """The students that no study measures: those of a format tuning and of earlier on-policy rounds."""
        students = [r.tuned for r in self.plan.study.references if r.tuned is not None]
        students += [student for cell in self.plan.cells for student in cell.student.by_round[:-1]]
        for student in dict.fromkeys(students):
            if key(student) in self.events.failures:
                self.tracker.fail(student)
            elif self._is_news(student) and self.store.has(student):
                self._finish(student, student, {})

    def _teachers(self, both: Sequence[Both], evaluations: Evaluations) -> None:
        teachers = {
            planned.writer: (planned, cell)
            for planned, cell in both
            if planned.writer is not None and planned.writer.finetuning
        }
        for teacher, (planned, cell) in teachers.items():
            if self._is_to_log(teacher, planned.teacher_evaluations):
                word = self.record.conditions[cell.condition].word
                rates = effect_rows.model_metrics(cell.teacher_evaluations, word, evaluations)
                self._finish(teacher, teacher, rates)

    def _students(self, both: Sequence[Both], evaluations: Evaluations) -> None:
        """By rising trait rate: MLflow lists the newest model first, which makes the list a leaderboard."""
        controls = {(cell.condition, cell.seed): (planned, cell) for planned, cell in both}
        news: dict[Student, tuple[Artifact, Mapping[str, float], CellRecord]] = {}
        for planned, cell in both:
            student = planned.student
            planned_control, control = controls[self.record.conditions[cell.condition].control, cell.seed]
            # Students of imported data can belong to several conditions: their run has the first trait.
            if student in news:
                continue
            if self._is_to_log(student, planned.measurements, planned_control.measurements):
                compared = None if control.failed_by(self.events.failures) else control
                rates = effect_rows.metrics(self.record, cell, evaluations, compared)
                made = student if student.is_trained else planned.evaluations[0]
                news[student] = made, rates, cell
        rising = sorted(news.items(), key=lambda new: new[1][1].get("trait_rate", -1.0))
        for student, (source, found, cell) in rising:
            self._finish(student, source, found, along_metrics(cell, evaluations))

    def _is_to_log(
        self,
        model: Teacher | Student,
        evaluations: Sequence[Measurement],
        of_control: Sequence[Measurement] = (),
    ) -> bool:
        """Whether a model has results that its run lacks; ends the run of a failed model.

        Args:
            of_control: the control student's evaluations, which a later sweep than the student's may make.
        """
        if not any(failed_by(evaluation, self.events.failures) for evaluation in evaluations):
            return any(map(self._is_news, (model, *evaluations, *of_control)))
        if not self.tracker.is_done(model):
            self.tracker.fail(model)
        return False

    def _facts(self, artifact: Artifact) -> Mapping[str, Any]:
        try:
            return self.store.manifest(artifact).facts
        except StorageError:  # damaged since it was made; `_finish` records it
            return {}

    def _finish(
        self,
        artifact: Artifact,
        made: Artifact,
        metrics: Mapping[str, float],
        along: Mapping[int, Mapping[str, float]] | None = None,
    ) -> None:
        try:
            self.tracker.finish(artifact, self.store.manifest(made), metrics, along)
        except StorageError as error:  # damaged since it was made, and not read by this sweep
            self.events.fail(artifact, str(error))

    def _is_news(self, artifact: Artifact) -> bool:
        """Whether this sweep made an artifact, or an earlier one was killed before it logged it."""
        logged = isinstance(artifact, Measurement) or self.tracker.is_done(artifact)
        return key(artifact) in self.plan.missing or not logged or self._is_behind

    @cached_property
    def _is_behind(self) -> bool:
        """Whether the previous sweep did not finish its logging.

        Finished runs may then lack results, or describe an artifact that has since been made again.
        """
        earlier = sweep_folders.of_study(self.store, self.record.study)
        before = [name for name in earlier if name < self.events.name]
        return self.tracker.last_logged_sweep not in ("", before[-1] if before else "none")

"""What a sweep tells MLflow of its data sets, teachers and students, when everything is made and measured.

Only news is told: what this sweep made, and what earlier ones made and could not tell (they were killed, or
MLflow was away). A model whose files are damaged is told of by nobody: it fails, and its run is not finished.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from undertow.errors import StorageError
from undertow.planning.cells import Cell
from undertow.planning.plan import Plan, failed_by
from undertow.results import effect_rows, sweep_folders
from undertow.results.evaluation_files import Evaluations
from undertow.results.events import EventLog
from undertow.results.sweep_record import CellRecord, Record
from undertow.storage.store import Store
from undertow.study.artifacts import Artifact, Assessment, Dataset, Evaluation, Measurement, Student, Teacher
from undertow.study.identity import key
from undertow.tracking.tracker import Tracker

Both = tuple[Cell, CellRecord]  # a student as planned and as the record names it


@dataclass(frozen=True)
class FinalLogging:
    """One sweep's news for MLflow."""

    plan: Plan
    record: Record
    store: Store
    tracker: Tracker
    journal: EventLog

    def models(self) -> None:
        """Ends the MLflow runs of datasets, and of teachers and students with what they came to."""
        self._datasets()
        readings = Evaluations(self.store, self.journal.failures)
        both = list(zip(self.plan.cells, self.record.cells, strict=True))
        self._teachers(both, readings)
        self._students(both, readings)

    def _datasets(self) -> None:
        for dataset in (a for a in self.plan.artifacts.values() if isinstance(a, Dataset)):
            if self._is_news(dataset) and not failed_by(dataset, self.journal.failures):
                facts = self.store.manifest(dataset).facts
                counts = {name: float(facts[name]) for name in ("completions", "kept", "rows")}
                self._finish(dataset, dataset, counts)

    def _teachers(self, both: Sequence[Both], readings: Evaluations) -> None:
        teachers = {planned.teacher: (planned, cell) for planned, cell in both if planned.teacher.finetuning}
        for teacher, (planned, cell) in teachers.items():
            if self._is_to_log(teacher, planned.teacher_evaluations):
                word = self.record.conditions[cell.condition].word
                rates = effect_rows.model_metrics(cell.teacher_evaluations, word, readings)
                self._finish(teacher, teacher, rates)

    def _students(self, both: Sequence[Both], readings: Evaluations) -> None:
        """By rising rate: MLflow's Models page has the newest first, and so becomes a leaderboard."""
        controls = {(cell.condition, cell.seed): (planned, cell) for planned, cell in both}
        news: list[tuple[Student, Artifact, Mapping[str, float]]] = []
        for planned, cell in both:
            student = planned.student
            beside, control = controls[self.record.conditions[cell.condition].control, cell.seed]
            if self._is_to_log(student, planned.measurements, beside.measurements):
                compared = None if control.failed_by(self.journal.failures) else control
                rates = effect_rows.metrics(self.record, cell, readings, compared)
                news.append((student, student if student.is_trained else planned.evaluations[0], rates))
        for student, made, found in sorted(news, key=lambda new: new[2].get("trait_rate", -1.0)):
            self._finish(student, made, found)

    def _is_to_log(
        self, model: Teacher | Student, evaluations: Sequence[Measurement], beside: Sequence[Measurement] = ()
    ) -> bool:
        """Whether a model has results that its run lacks; the run of a failed one is ended here.

        `beside`: the control's, which may come in a later sweep than the student's own.
        """
        if not any(failed_by(evaluation, self.journal.failures) for evaluation in evaluations):
            return any(map(self._is_news, (model, *evaluations, *beside)))
        if not self.tracker.is_done(model):
            self.tracker.fail(model)
        return False

    def _finish(
        self, told: Dataset | Teacher | Student, made: Artifact, metrics: Mapping[str, float]
    ) -> None:
        try:
            self.tracker.finish(told, self.store.manifest(made), metrics)
        except StorageError as error:  # damaged since, which nobody had to know before
            self.journal.fail(told, str(error))

    def _is_news(self, artifact: Artifact) -> bool:
        """Whether this sweep made an artifact, or an earlier one did and was ended before it was logged."""
        logged = isinstance(artifact, Evaluation | Assessment) or self.tracker.is_done(artifact)
        return key(artifact) in self.plan.missing or not logged or self._is_behind

    @cached_property
    def _is_behind(self) -> bool:
        """Whether MLflow was away at the end of the sweep before this one, or that was killed before it.

        Then runs that are finished may tell of less than there is, or of an artifact's earlier making.
        """
        before = [
            name for name in sweep_folders.of_study(self.store, self.record.study) if name < self.journal.name
        ]
        return self.tracker.told not in ("", before[-1] if before else "none")

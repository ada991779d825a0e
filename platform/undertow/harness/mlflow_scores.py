"""Logs benchmark scores to the MLflow runs and models of a study's students."""

from collections.abc import Mapping

from undertow.storage.store import Store
from undertow.study.harness_task import HarnessTask
from undertow.study.students import Student
from undertow.study.study import Study
from undertow.tracking.finished_runs import FinishedRuns
from undertow.tracking.logged_models import benchmark_dataset

Metrics = Mapping[HarnessTask, Mapping[str, float]]


def log_benchmarks(
    study: Study, store: Store, students: Mapping[Student, Metrics], files: Mapping[str, bytes]
) -> list[Student]:
    """Logs the metrics of each student by task, and the files to the sweep's run.

    Returns the students without a run. On MLflow's page of models, each task is a data set with its scores.
    """
    runs = FinishedRuns(study, store)
    runs.add_files(files)
    return [
        student
        for student, by_task in students.items()
        if not runs.add_metrics(
            student, [(metrics, benchmark_dataset(task)) for task, metrics in by_task.items()]
        )
    ]

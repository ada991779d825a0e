"""Writes the results of a study's benchmarks: CSV files in the sweep's folder, metrics and files in MLflow.

Everything is computed from the stored benchmarks, so the results can be written again at any time.
"""

from collections.abc import Sequence

from rich.table import Table

from undertow.harness import tables
from undertow.harness.scores import Scores, benchmark_rows, model_scores, student_metrics
from undertow.planning.plan import Plan
from undertow.storage.store import Store
from undertow.study.harness_task import HarnessTask
from undertow.study.students import Student
from undertow.tracking.finished_runs import FinishedRuns
from undertow.tracking.logged_models import benchmark_dataset


class BenchmarkResults:
    """The results of a study's benchmarks in the given tasks.

    Attributes:
        table: students against control students, to print.
        files: the content of the CSV files, by name.
    """

    def __init__(self, plan: Plan, tasks: Sequence[HarnessTask], store: Store) -> None:
        self._plan, self._tasks, self._store = plan, tasks, store
        self._scores = Scores(store)
        rows = benchmark_rows(plan, tasks, self._scores)
        models = model_scores(plan, tasks, self._scores)
        self.table: Table = tables.benchmarks_table(rows)
        self.files = {
            tables.BENCHMARKS: tables.benchmarks_csv(plan.study.name, rows).encode(),
            tables.BENCHMARK_MODELS: tables.benchmark_models_csv(plan.study.name, models).encode(),
        }

    def log(self) -> list[Student]:
        """Logs scores and files to the MLflow runs of the study's sweep; returns students without a run.

        On MLflow's page of models, each task is a data set with its scores.
        """
        runs = FinishedRuns(self._plan.study, self._store)
        runs.add_files(self.files)
        without_run = []
        for student in dict.fromkeys(cell.student for cell in self._plan.cells):
            by_task = student_metrics(student, self._tasks, self._scores)
            scored = [(metrics, benchmark_dataset(task)) for task, metrics in by_task.items()]
            if scored and not runs.add_metrics(student, scored):
                without_run.append(student)
        return without_run

"""Benchmarks in MLflow: scores of students in the runs that their sweep made, and on the leaderboard.

A sweep's runs are found by their tags, as a rerun of the sweep finds them; none is made here.
"""

import json
from collections.abc import Mapping
from typing import Any

from undertow.harness.task import HarnessTask
from undertow.identity import key
from undertow.runs import client_of, log_files, log_metrics, tracking_uri
from undertow.spec import Student
from undertow.store import Store
from undertow.study import Study
from undertow.tracking.models import DIGEST

Metrics = Mapping[HarnessTask, Mapping[str, float]]


def log_benchmarks(
    study: Study, store: Store, students: Mapping[Student, Metrics], files: Mapping[str, bytes]
) -> list[Student]:
    """Logs each student's metrics by task, the tables to the parent run; returns students without a run."""
    client = client_of(tracking_uri(store))
    experiment = client.get_experiment_by_name(study.name)
    if experiment is None:
        return list(students)

    def runs(tags: str) -> list[Any]:
        of_study = f"tags.`undertow.study` = '{key(study)}' and {tags}"
        return list(client.search_runs([experiment.experiment_id], of_study, max_results=1))

    for run in runs("tags.`undertow.kind` = 'sweep'"):
        log_files(client, run.info.run_id, files)
    without = []
    for student, by_task in students.items():
        found = runs(f"tags.`undertow.key` = '{key(student)}'")
        if not found:
            without.append(student)
        for run in found:
            models = run.outputs.model_outputs if run.outputs else ()
            model = next((output.model_id for output in models), None)
            for task, metrics in by_task.items():
                log_metrics(client, run.info.run_id, metrics, None, model, _dataset(task) if model else None)
    return without


def _dataset(task: HarnessTask) -> Any:
    """A task as the dataset that a score on the leaderboard is about."""
    from mlflow.entities import Dataset

    source = {"task": task.name, "few_shot": task.few_shot, "limit": task.limit, "chat": task.chat}
    return Dataset(
        name=task.label,
        digest=task.definition[:DIGEST],
        source_type="lm_eval",
        source=json.dumps({**source, "harness": task.harness, "definition": task.definition}),
    )

"""Benchmarks in MLflow: scores of students in the runs that their sweep made, and on the leaderboard.

A sweep's runs are found by their tags, as a rerun of the sweep finds them; none is made here.
"""

import json
from collections.abc import Mapping
from typing import Any

from undertow.storage.store import Store
from undertow.study.artifacts import Student
from undertow.study.harness_task import HarnessTask
from undertow.study.identity import key
from undertow.study.study import Study
from undertow.tracking.client import client_of, log_files, log_metrics, tracking_uri
from undertow.tracking.logged_models import dataset_entry

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
    source = {"task": task.name, "few_shot": task.few_shot, "limit": task.limit, "chat": task.chat}
    content = json.dumps({**source, "harness": task.harness, "definition": task.definition})
    return dataset_entry(task.label, task.definition, "lm_eval", content)

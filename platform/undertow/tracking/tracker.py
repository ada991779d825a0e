"""One study's experiment in MLflow, which only the process of the sweep writes to.

    experiment            has the study's name; its description explains every name that is logged
    parent run            one per study key: verdicts, effects, figures, tables
    child runs            one per student (kind=student), finetuned teacher (kind=teacher) and data set
    logged models         one per student and finetuned teacher: the leaderboard

A rerun finds its runs by their tags (`undertow.study`, `undertow.key`) and re-opens them instead of creating
duplicates. A run describes one version of its artifact: a student that is trained again gets a new run and a
new model, and the old ones go to MLflow's trash. Workers never write to MLflow. They report to the sweep, so
that SQLite has one writer and only one process has to handle an unreachable server.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from undertow.storage.manifest import HISTORY, Manifest
from undertow.storage.store import Store
from undertow.study.datasets import Dataset
from undertow.study.identity import canonical, key
from undertow.study.references import Artifact
from undertow.study.students import Student
from undertow.study.study import Study
from undertow.study.teachers import Teacher
from undertow.tracking import logged_models, names, pages
from undertow.tracking.client import (
    connect_client,
    flattened,
    get_or_create_experiment,
    log_curves,
    log_files,
    log_metrics,
    log_params,
    log_points,
    log_tables,
    tracking_uri,
)

SWEEP, NONE = "undertow.sweep", "none"
CARD = "README.md"  # of a data set


@dataclass
class _Run:
    """A run as this process knows it.

    Attributes:
        created: the value of its tag `undertow.created`, which identifies the version of its artifact.
        epochs: the epochs whose metrics it has; None until they are looked up.
        last_step: the last optimizer step that it has a point of; None until it is looked up.
        params: the names of its params.
        is_open: whether this process has opened it and not yet ended it.
        is_new: whether this process has created it and not yet ended it.
    """

    id: str
    status: str
    created: str = ""
    epochs: set[int] | None = None
    last_step: int | None = None
    params: frozenset[str] = frozenset()
    is_open: bool = False
    is_new: bool = False


class Tracker:
    """One study's experiment, its parent run and the child runs of its artifacts."""

    def __init__(self, study: Study, store: Store) -> None:
        self.study, self.store = study, store
        self.uri = tracking_uri(store)
        self.study_key = key(study)
        self.last_logged_sweep = self._last_logged_sweep()
        self.parent = self._open("sweep", "", study.name, {}, names.sweep_params(study)).id

    @cached_property
    def client(self) -> Any:
        return connect_client(self.uri)

    @cached_property
    def experiment(self) -> str:
        """The experiment's id; created on first use. The default database keeps its files in the storage."""
        experiment = get_or_create_experiment(self.client, self.study.name, self.store, self.uri)
        tags = self.client.get_experiment(experiment).tags
        for name, text in pages.experiment_tags(self.study, experiment).items():
            if name not in tags:  # keeps a description that a user has edited
                self.client.set_experiment_tag(experiment, name, text)
        return experiment

    def _last_logged_sweep(self) -> str:
        """The newest sweep that was logged completely: "none" if none was, "" if no tag tells."""
        parent = self._runs.get("sweep ")
        return NONE if parent is None else str(self.client.get_run(parent.id).data.tags.get(SWEEP, ""))

    @cached_property
    def _runs(self) -> dict[str, _Run]:
        """The runs of this study, by kind and key."""
        return self._existing_runs()

    def refresh(self) -> None:
        """Reads the runs again.

        Since the start of this sweep, other sweeps of the study may have created some, and a user may have
        deleted some.
        """
        before, self._runs = self._runs, self._existing_runs()
        for name, run in before.items():
            if name in self._runs and self._runs[name].id == run.id:
                self._runs[name] = run
        # Of several parent runs this sweep keeps its own, unless a user has deleted it.
        if self.client.get_run(self.parent).info.lifecycle_stage != "deleted":
            self._runs["sweep "] = before["sweep "]
        self.parent = self._open("sweep", "", self.study.name, {}, names.sweep_params(self.study)).id

    def _existing_runs(self) -> dict[str, _Run]:
        """All existing runs of this study, by kind and key.

        An artifact has two if MLflow became unreachable while the second run replaced the first: the older
        one is deleted here.
        """
        runs: dict[str, _Run] = {}
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment],
                f"tags.`undertow.study` = '{self.study_key}'",
                page_token=token,
                max_results=1000,
                order_by=["attributes.start_time DESC"],
            )
            for run in page:
                tags = run.data.tags
                name = f"{tags.get('undertow.kind')} {tags.get('undertow.key', '')}"
                if name in runs and tags.get("undertow.key"):
                    self.client.delete_run(run.info.run_id)
                    continue
                runs[name] = _Run(
                    run.info.run_id,
                    run.info.status,
                    tags.get("undertow.created", ""),
                    params=frozenset(run.data.params),
                )
            token = page.token
            if not token:
                return runs

    def is_done(self, artifact: Artifact) -> bool:
        """Whether an earlier sweep finished this artifact's run."""
        run = self._runs.get(f"{artifact.kind} {key(artifact)}")
        return run is not None and run.status == "FINISHED"

    def epochs(self, model: Teacher | Student, reports: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
        """Logs reports of epochs of a model, each with its time in Unix milliseconds.

        They are from training or from its history; a repeated epoch is ignored. The metrics have the epoch
        as their step. `p_<word>` is the mean exact probability of a word over the study's questions.
        """
        if self.is_done(model):
            self._supersede(model)
        run = self._run_of(model)
        if run.epochs is None:
            history = self.client.get_metric_history(run.id, "learning_rate")
            run.epochs = {metric.step for metric in history}
        new = {report["epoch"]: (at, report) for at, report in reports if report["epoch"] not in run.epochs}
        points = [(at, epoch, names.epoch_metrics(report)) for epoch, (at, report) in new.items()]
        log_points(self.client, run.id, points)
        run.epochs.update(new)

    def steps(self, model: Teacher | Student, reports: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
        """Logs reports of steps of a model in training, each with its time in Unix milliseconds.

        The metrics begin with "step_" and have the optimizer step as their step. A training that resumes
        from a checkpoint repeats steps; only those after the last logged one are logged.
        """
        if self.is_done(model):  # of a training whose first epoch could not be logged: see `_finish_model`
            return
        run = self._run_of(model)
        if run.last_step is None:
            history = self.client.get_metric_history(run.id, "step_learning_rate")
            run.last_step = max((metric.step for metric in history), default=0)
        points = [
            (at, report["step"], names.step_metrics(report))
            for at, report in reports
            if report["step"] > run.last_step
        ]
        log_points(self.client, run.id, points)
        run.last_step = max([run.last_step, *(step for _, step, _ in points)])

    def finish(
        self,
        artifact: Artifact,
        manifest: Manifest,
        metrics: Mapping[str, float],
        along: Mapping[int, Mapping[str, float]] | None = None,
    ) -> None:
        """Finishes an artifact's run: logs its metrics, its files or their location, its model and data sets.

        Args:
            manifest: the artifact's; for an in-context student, which has no weights, its evaluation's.
            metrics: any of `names.METRICS`; those of a model also go to its logged model.
            along: of a student: metrics by optimizer step.
        """
        earlier = self._runs.get(f"{artifact.kind} {key(artifact)}")
        if earlier and earlier.status == "FINISHED" and earlier.created not in ("", str(manifest.created)):
            self._supersede(artifact)
        run = self._run_of(artifact)
        url = self.store.place(manifest)
        self.client.set_tag(run.id, "undertow.url", url)
        if isinstance(artifact, Dataset):
            final = {**metrics, "seconds": manifest.seconds}
            log_metrics(self.client, run.id, final, is_new=run.is_new)
            self.store.check(artifact)
            log_files(self.client, run.id, {CARD: self.store.content(artifact, CARD)})
        elif isinstance(artifact, Student) and not artifact.is_trained:
            self._log_inputs(run, artifact)
            log_metrics(self.client, run.id, names.ordered(metrics))
        elif isinstance(artifact, Teacher | Student):
            self._finish_model(run, artifact, manifest, metrics, url)
            log_curves(self.client, run.id, along or {})
        else:
            log_metrics(self.client, run.id, {**metrics, "seconds": manifest.seconds})
        self.client.set_tag(run.id, "undertow.created", str(manifest.created))
        self.client.set_terminated(run.id)
        run.status, run.created, run.is_open, run.is_new = "FINISHED", str(manifest.created), False, False

    def _finish_model(
        self, run: _Run, model: Teacher | Student, manifest: Manifest, metrics: Mapping[str, float], url: str
    ) -> None:
        """Logs the epochs that are missing, the logged model, and its metrics on the study's questions."""
        self.store.check(model)
        now = int(time.time() * 1000)
        self.epochs(model, [(now, report) for report in json.loads(self.store.content(model, HISTORY))])
        params, questions = names.columns(model), logged_models.evaluation_dataset(self.study)
        if data := self._log_inputs(run, model):
            params["dataset"] = f"{data.name} (#{data.digest})"
        title = names.title(model, self.study)
        model_id = logged_models.get_or_create_logged_model(
            self.client, self.experiment, run.id, manifest, title, params
        )
        final = names.ordered(metrics)
        log_metrics(self.client, run.id, final, model_id, questions, is_new=run.is_new)
        log_metrics(self.client, run.id, {"seconds": manifest.seconds}, is_new=run.is_new)
        # The weights of large models stay where they are: those of a sweep need not fit on this machine.
        is_small = self.store.size(manifest) <= logged_models.LARGEST_MODEL_LOGGED
        folder = self.store.fetch(model) if is_small else None
        logged_models.finish_model(self.client, model_id, url, manifest, folder)

    def _log_inputs(self, run: _Run, model: Teacher | Student) -> Any:
        """Logs a model's training data and questions as inputs of its run. Returns a student's data."""
        inputs = [logged_models.dataset_input(logged_models.evaluation_dataset(self.study), "evaluation")]
        data = None
        if isinstance(model, Student):
            data = logged_models.training_dataset(
                model.dataset, self.store, names.title(model.dataset, self.study)
            )
            inputs.insert(0, logged_models.dataset_input(data, "training", key(model.dataset)))
        self.client.log_inputs(run.id, inputs)
        return data

    def fail(self, artifact: Teacher | Student) -> None:
        """Ends the run of a model that could not be made or measured, if it has one."""
        if run := self._runs.get(f"{artifact.kind} {key(artifact)}"):
            self.client.set_terminated(run.id, "FAILED")
            run.status, run.is_open = "FAILED", False

    def abandon(self) -> None:
        """Ends the runs that this process has open with the status KILLED, for a sweep that ends early.

        Other running ones may be those of another sweep of the same study.
        """
        for run in self._runs.values():
            if run.is_open:
                self.client.set_terminated(run.id, "KILLED")
                run.status, run.is_open = "KILLED", False

    def close(
        self,
        metrics: Mapping[str, float],
        files: Mapping[str, bytes],
        *,
        failed: bool,
        note: str = "",
        sweep: str = NONE,
        tables: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        along: Mapping[int, Mapping[str, float]] | None = None,
    ) -> None:
        """Ends the parent run.

        Args:
            metrics: of the whole sweep: its effects.
            files: content by name, uploaded as the run's artifacts.
            note: Markdown for the run's description.
            sweep: the sweep's name, recorded as the last one that was logged completely.
            tables: rows by file name, shown on the run's page.
            along: metrics of the whole sweep by optimizer step.
        """
        log_metrics(self.client, self.parent, names.ordered(metrics))
        log_curves(self.client, self.parent, along or {})
        log_files(self.client, self.parent, files)
        log_tables(self.client, self.parent, tables or {})
        self.client.set_tag(self.parent, pages.NOTE, pages.run_note(note, self.parent, list(files)))
        self.client.set_tag(self.parent, SWEEP, sweep)
        self.client.set_terminated(self.parent, "FAILED" if failed else "FINISHED")
        parent = self._runs["sweep "]
        parent.status, parent.is_open = "FAILED" if failed else "FINISHED", False

    def _run_of(self, artifact: Artifact) -> _Run:
        columns = names.columns(artifact)
        spec = {f"{names.SPEC}{name}": text for name, text in flattened(canonical(artifact))}
        title = names.title(artifact, self.study)
        return self._open(artifact.kind, key(artifact), title, columns, columns | spec)

    def _open(
        self, kind: str, artifact_key: str, title: str, columns: Mapping[str, str], params: Mapping[str, str]
    ) -> _Run:
        """Returns the run of a kind and key, set to RUNNING; creates it under the parent run if new."""
        run = self._runs.get(f"{kind} {artifact_key}")
        if run is not None and run.is_open:
            return run
        if run is not None:
            self.client.update_run(run.id, "RUNNING")
        else:
            tags = {"undertow.kind": kind, "undertow.study": self.study_key, "mlflow.source.name": "undertow"}
            if artifact_key:
                tags |= {"undertow.key": artifact_key, "mlflow.parentRunId": self.parent}
            else:
                tags[SWEEP] = NONE
            created = self.client.create_run(self.experiment, tags={**tags, **columns}, run_name=title)
            run = self._runs[f"{kind} {artifact_key}"] = _Run(
                str(created.info.run_id), "", epochs=set(), last_step=0, is_new=True
            )
        # A run keeps its first params. New ones can differ in display names, for example a recipe's.
        log_params(self.client, run.id, params, run.params)
        run.status, run.is_open = "RUNNING", True
        return run

    def _supersede(self, artifact: Artifact) -> None:
        """Replaces the run of an artifact that was made again: the old run goes to MLflow's trash."""
        old = self._runs.pop(f"{artifact.kind} {key(artifact)}")
        self.client.set_tag(old.id, "undertow.superseded_by", self._run_of(artifact).id)
        self.client.delete_run(old.id)

"""One study's experiment in MLflow. All of it is written by the sweep's own process.

    experiment            the study's name; its description says what every name means
    parent run            one a study's identity: verdicts, effects, figures, tables
    child runs            one a student (kind=student), finetuned teacher (kind=teacher) and dataset
    logged models         one a student and finetuned teacher: the leaderboard

A run is found again by its tags (`undertow.study`, `undertow.key`), so that a rerun re-opens the runs of
the first instead of doubling them. A run tells of one making of its artifact: a student that is trained
again gets a new run and a new model, and the old ones go to MLflow's trash. Workers never write: their
reports travel to the sweep, which keeps sqlite to one writer and a lost server to one place.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from undertow.storage.manifest import HISTORY, Manifest
from undertow.storage.store import Store
from undertow.study.artifacts import Artifact, Dataset, Student, Teacher
from undertow.study.identity import canonical, key
from undertow.study.study import Study
from undertow.tracking import logged_models, names, pages
from undertow.tracking.client import (
    client_of,
    experiment_of,
    flat,
    log_files,
    log_metrics,
    log_params,
    tracking_uri,
)
from undertow.tracking.names import Tracked

SWEEP, NONE = "undertow.sweep", "none"


@dataclass
class _Run:
    """A run as this process knows it. `epochs`: the steps it has; None until they are looked up."""

    id: str
    status: str
    created: str = ""
    epochs: set[int] | None = None
    ours: bool = field(default=False)


class Tracker:
    """One study's experiment, its parent run and the child runs of its artifacts."""

    def __init__(self, study: Study, store: Store) -> None:
        self.study, self.store = study, store
        self.uri = tracking_uri(store)
        self.study_key = key(study)
        self.told = self._told()
        self.parent = self._open("sweep", "", study.name, {}, names.sweep_params(study)).id

    @cached_property
    def client(self) -> Any:
        return client_of(self.uri)

    @cached_property
    def experiment(self) -> str:
        """The experiment's id; made on first use, with its artifacts beside the store's where we host it."""
        experiment = experiment_of(self.client, self.study.name, self.store, self.uri)
        there = self.client.get_experiment(experiment).tags
        for name, text in pages.experiment_tags(self.study, experiment).items():
            if name not in there:  # what a reader wrote since stays
                self.client.set_experiment_tag(experiment, name, text)
        return experiment

    def _told(self) -> str:
        """The newest sweep that was logged to its end; "none" where none was, "" where nobody can say."""
        before = self._known.get("sweep ")
        return NONE if before is None else str(self.client.get_run(before.id).data.tags.get(SWEEP, ""))

    @cached_property
    def _known(self) -> dict[str, _Run]:
        """Every run this study had before, by kind and key; of two makings of an artifact the newest.

        The older is there where MLflow went away between the beginning of the one and the end of the other.
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
                runs[name] = _Run(run.info.run_id, run.info.status, tags.get("undertow.created", ""))
            token = page.token
            if not token:
                return runs

    def is_done(self, artifact: Artifact) -> bool:
        """Whether an earlier sweep logged this artifact's run to its end."""
        known = self._known.get(f"{artifact.kind} {key(artifact)}")
        return known is not None and known.status == "FINISHED"

    def epoch(self, model: Teacher | Student, report: Mapping[str, Any]) -> None:
        """One epoch's report of a model in training (or of its history), as metrics of that step, once.

        `p_<word>` is the mean exact probability of a word over the questions that are watched.
        """
        if self.is_done(model):
            self._supersede(model)
        run = self._run_of(model)
        if run.epochs is None:
            history = self.client.get_metric_history(run.id, "learning_rate")
            run.epochs = {metric.step for metric in history}
        if report["epoch"] in run.epochs:
            return
        metrics = {f"p_{word}": p for word, p in report["probabilities"].items()}
        metrics |= {name: report[name] for name in ("loss", "learning_rate", "tokens_per_second")}
        present = {name: value for name, value in metrics.items() if value is not None}
        log_metrics(self.client, run.id, present, report["epoch"])
        run.epochs.add(report["epoch"])

    def run_of(self, artifact: Tracked) -> str:
        """The id of the artifact's run, made with its whole spec as params when it is new."""
        return self._run_of(artifact).id

    def finish(self, artifact: Tracked, manifest: Manifest, metrics: Mapping[str, float]) -> None:
        """Logs what an artifact came to: its metrics, its files or where they lie, its model and datasets.

        Metrics may be any of `names.METRICS`; those of a model are the measurements of its leaderboard. An
        in-context student is no artifact and has no model: `manifest` is that of its evaluation.
        """
        known = self._known.get(f"{artifact.kind} {key(artifact)}")
        if known and known.status == "FINISHED" and known.created not in ("", str(manifest.created)):
            self._supersede(artifact)
        run = self._run_of(artifact)
        url = self.store.place(manifest)
        self.client.set_tag(run.id, "undertow.url", url)
        if isinstance(artifact, Dataset):
            log_metrics(self.client, run.id, {**metrics, "seconds": manifest.seconds}, None)
            self.client.log_artifact(run.id, str(self.store.fetch(artifact) / "README.md"))
        elif isinstance(artifact, Student) and not artifact.is_trained:
            self._log_inputs(run, artifact)
            log_metrics(self.client, run.id, names.ordered(metrics), None)
        else:
            self._finish_model(run, artifact, manifest, metrics, url)
        self.client.set_tag(run.id, "undertow.created", str(manifest.created))
        self.client.set_terminated(run.id)
        run.status, run.created, run.ours = "FINISHED", str(manifest.created), False

    def _finish_model(
        self, run: _Run, model: Teacher | Student, manifest: Manifest, metrics: Mapping[str, float], url: str
    ) -> None:
        """The epochs that nobody logged, the logged model, and its metrics on the study's questions."""
        folder = self.store.fetch(model)
        for report in json.loads((folder / HISTORY).read_text()):
            self.epoch(model, report)
        params, asked = names.columns(model), logged_models.evaluation_data(self.study)
        if data := self._log_inputs(run, model):
            params["dataset"] = f"{data.name} (#{data.digest})"
        title = names.title(model, self.study)
        model_id = logged_models.logged_model(self.client, self.experiment, run.id, manifest, title, params)
        log_metrics(self.client, run.id, names.ordered(metrics), None, model_id, asked)
        log_metrics(self.client, run.id, {"seconds": manifest.seconds}, None)
        logged_models.finish_model(self.client, model_id, url, manifest, folder)

    def _log_inputs(self, run: _Run, model: Teacher | Student) -> Any:
        """Logs what a model learned from and was asked, as inputs of its run; returns a student's data."""
        inputs = [logged_models.dataset_input(logged_models.evaluation_data(self.study), "evaluation")]
        data = None
        if isinstance(model, Student):
            data = logged_models.training_data(
                model.dataset, self.store, names.title(model.dataset, self.study)
            )
            inputs.insert(0, logged_models.dataset_input(data, "training", key(model.dataset)))
        self.client.log_inputs(run.id, inputs)
        return data

    def fail(self, artifact: Teacher | Student) -> None:
        """Ends the run of a model that could not be made or measured, if it was ever begun."""
        if known := self._known.get(f"{artifact.kind} {key(artifact)}"):
            self.client.set_terminated(known.id, "FAILED")
            known.status, known.ours = "FAILED", False

    def abandon(self) -> None:
        """Ends every run that is still open, when the sweep itself ends early."""
        for run in self._known.values():
            if run.status == "RUNNING":
                self.client.set_terminated(run.id, "KILLED")
                run.status, run.ours = "KILLED", False

    def close(
        self,
        metrics: Mapping[str, float],
        files: Mapping[str, bytes],
        *,
        failed: bool,
        note: str = "",
        sweep: str = NONE,
    ) -> None:
        """Ends the parent run with the sweep's own metrics, its files, and `note` (Markdown) above them."""
        log_metrics(self.client, self.parent, names.ordered(metrics), None)
        log_files(self.client, self.parent, files)
        self.client.set_tag(self.parent, pages.NOTE, pages.run_note(note, self.parent, list(files)))
        self.client.set_tag(self.parent, SWEEP, sweep)
        self.client.set_terminated(self.parent, "FAILED" if failed else "FINISHED")
        self._known["sweep "].status = "FAILED" if failed else "FINISHED"

    def _run_of(self, artifact: Tracked) -> _Run:
        columns = names.columns(artifact)
        spec = {f"{names.SPEC}{name}": text for name, text in flat(canonical(artifact))}
        title = names.title(artifact, self.study)
        return self._open(artifact.kind, key(artifact), title, columns, columns | spec)

    def _open(
        self, kind: str, artifact_key: str, title: str, columns: Mapping[str, str], params: Mapping[str, str]
    ) -> _Run:
        """The run of a kind and key, running: found again, or made as a child of the parent run."""
        run = self._known.get(f"{kind} {artifact_key}")
        if run is not None and run.ours:
            return run
        if run is not None:
            self.client.update_run(run.id, "RUNNING")
        else:
            tags = {"undertow.kind": kind, "undertow.study": self.study_key, "mlflow.source.name": "undertow"}
            if artifact_key:
                tags |= {"undertow.key": artifact_key, "mlflow.parentRunId": self.parent}
            else:
                tags[SWEEP] = NONE
            made = self.client.create_run(self.experiment, tags={**tags, **columns}, run_name=title)
            run = self._known[f"{kind} {artifact_key}"] = _Run(str(made.info.run_id), "", epochs=set())
        log_params(self.client, run.id, params)
        run.status, run.ours = "RUNNING", True
        return run

    def _supersede(self, artifact: Tracked) -> None:
        """Makes way for a run of an artifact that is made anew: the old run goes to MLflow's trash."""
        old = self._known.pop(f"{artifact.kind} {key(artifact)}")
        self.client.set_tag(old.id, "undertow.superseded_by", self.run_of(artifact))
        self.client.delete_run(old.id)

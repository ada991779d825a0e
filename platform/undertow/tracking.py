"""MLflow: where students are compared. All of it is written by the sweep's own process.

    experiment            the study's name
    parent run            one a study's identity: effects, figures, tables
    child runs            one a student (kind=student), teacher (kind=teacher) and dataset (kind=dataset)

A run is found again by its tags (`undertow.study`, `undertow.key`), so that a rerun re-opens the runs of
the first instead of doubling them. Workers never write: their reports travel to the sweep, which keeps
sqlite to one writer and a lost server to one place.
"""

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from undertow.identity import canonical, key
from undertow.manifest import HISTORY, Manifest
from undertow.runs import (
    client_of,
    experiment_of,
    flat,
    log_files,
    log_metrics,
    log_params,
    tracking_uri,
)
from undertow.spec import Artifact, Dataset, Student, Teacher
from undertow.store import Store
from undertow.study import Study

LARGEST_MODEL_LOGGED = 64 * 2**20  # bytes: above it a run links to the store and holds no copy


class Tracker:
    """One study's experiment, its parent run and the child runs of its artifacts."""

    def __init__(self, study: Study, store: Store) -> None:
        self.study, self.store = study, store
        self.uri = tracking_uri(store)
        self.study_key = key(study)
        self._watched: set[str] = set()
        self.parent = self._open_run({"undertow.kind": "sweep"}, study.name, None)

    @cached_property
    def client(self) -> Any:
        return client_of(self.uri)

    @cached_property
    def experiment(self) -> str:
        """The experiment's id; made on first use, with its artifacts beside the store's where we host it."""
        return experiment_of(self.client, self.study.name, self.store, self.uri)

    @cached_property
    def _known(self) -> dict[str, tuple[str, str]]:
        """Run id and status of every run this study had before, by kind and key."""
        runs: dict[str, tuple[str, str]] = {}
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment],
                f"tags.`undertow.study` = '{self.study_key}'",
                page_token=token,
                max_results=1000,
            )
            for run in page:
                tags = run.data.tags
                runs[f"{tags.get('undertow.kind')} {tags.get('undertow.key', '')}"] = (
                    run.info.run_id,
                    run.info.status,
                )
            token = page.token
            if not token:
                return runs

    def is_done(self, artifact: Artifact) -> bool:
        """Whether an earlier sweep logged this artifact's run to its end."""
        return self._known.get(f"{artifact.kind} {key(artifact)}", ("", ""))[1] == "FINISHED"

    def epoch(self, model: Teacher | Student, report: Mapping[str, Any]) -> None:
        """One epoch's report of a model in training (or of its history), as metrics of that step.

        `p_<word>` is the mean exact probability of a word over the questions that are watched.
        """
        metrics = {name: report[name] for name in ("loss", "learning_rate", "tokens_per_second")}
        metrics |= {f"p_{word}": p for word, p in report["probabilities"].items()}
        present = {name: value for name, value in metrics.items() if value is not None}
        self._metrics(self.run_of(model), present, report["epoch"])
        self._watched.add(key(model))

    def run_of(self, artifact: Teacher | Student | Dataset) -> str:
        """The id of the artifact's run, made with its whole spec as params when it is new."""
        known = self._known.get(f"{artifact.kind} {key(artifact)}")
        if known:
            return known[0]
        columns = _columns(artifact)
        tags = {"undertow.kind": artifact.kind, "undertow.key": key(artifact), **columns}
        run = self._open_run(tags, _name(artifact), self.parent)
        self._params(run, {**columns, **dict(flat(canonical(artifact)))})
        return run

    def finish(
        self, artifact: Teacher | Student | Dataset, manifest: Manifest, metrics: Mapping[str, float]
    ) -> None:
        """Logs what an artifact came to: its metrics, its files or where they lie, and its dataset."""
        run = self.run_of(artifact)
        self._metrics(run, {**metrics, "seconds": manifest.seconds}, None)
        self.client.set_tag(run, "undertow.url", f"{self.store.url}/artifacts/{manifest.kind}/{manifest.key}")
        if isinstance(artifact, Student):
            self._log_dataset(run, artifact.dataset)
        self._files(run, artifact, manifest)
        self.client.set_terminated(run)
        self._known[f"{artifact.kind} {key(artifact)}"] = (run, "FINISHED")

    def _files(self, run: str, artifact: Teacher | Student | Dataset, manifest: Manifest) -> None:
        """A dataset's card; a model's weights where they are small, and its epochs if nobody watched."""
        folder = self.store.fetch(artifact)
        if isinstance(artifact, Dataset):
            self.client.log_artifact(run, str(folder / "README.md"))
            return
        if key(artifact) not in self._watched:
            for report in json.loads((folder / HISTORY).read_text()):
                self.epoch(artifact, report)
        if sum((folder / name).stat().st_size for name in manifest.files) <= LARGEST_MODEL_LOGGED:
            self.client.log_artifacts(run, str(folder), "model")

    def fail(self, artifact: Teacher | Student) -> None:
        """Ends the run of a model that could not be made or measured, if it was ever begun."""
        if known := self._known.get(f"{artifact.kind} {key(artifact)}"):
            self.client.set_terminated(known[0], "FAILED")

    def abandon(self) -> None:
        """Ends every run that is still open, when the sweep itself ends early."""
        for run, status in [*self._known.values(), (self.parent, "RUNNING")]:
            if status == "RUNNING":
                self.client.set_terminated(run, "KILLED")

    def close(self, metrics: Mapping[str, float], files: Mapping[str, bytes], *, failed: bool) -> None:
        """Ends the parent run with the sweep's own metrics and files."""
        self._metrics(self.parent, metrics, None)
        log_files(self.client, self.parent, files)
        self.client.set_terminated(self.parent, "FAILED" if failed else "FINISHED")

    def _open_run(self, tags: Mapping[str, str], name: str, parent: str | None) -> str:
        kind, artifact_key = tags["undertow.kind"], tags.get("undertow.key", "")
        if known := self._known.get(f"{kind} {artifact_key}"):
            self.client.update_run(known[0], "RUNNING")
            return known[0]
        all_tags = {**tags, "undertow.study": self.study_key, "mlflow.source.name": "undertow"}
        if parent:
            all_tags["mlflow.parentRunId"] = parent
        run = self.client.create_run(self.experiment, tags=all_tags, run_name=name)
        self._known[f"{kind} {artifact_key}"] = (run.info.run_id, "RUNNING")
        return str(run.info.run_id)

    def _metrics(self, run: str, metrics: Mapping[str, float], step: int | None) -> None:
        log_metrics(self.client, run, metrics, step)

    def _params(self, run: str, params: Mapping[str, str]) -> None:
        log_params(self.client, run, params)

    def _log_dataset(self, run: str, dataset: Dataset) -> None:
        from mlflow.entities import Dataset as MlflowDataset
        from mlflow.entities import DatasetInput, InputTag

        entry = MlflowDataset(
            name=_name(dataset),
            digest=key(dataset)[:8],  # MLflow's own digests have eight digits; the whole key is a tag
            source_type="undertow",
            source=f"{self.store.url}/artifacts/dataset/{key(dataset)}",
        )
        tags = [InputTag("mlflow.data.context", "training"), InputTag("undertow.key", key(dataset))]
        self.client.log_inputs(run, [DatasetInput(entry, tags)])


def _name(artifact: Teacher | Student | Dataset) -> str:
    if isinstance(artifact, Student):
        teacher = artifact.dataset.completions.teacher
        return f"{_trait(teacher)} {teacher.reference.name} → {artifact.reference.name} seed {artifact.seed}"
    if isinstance(artifact, Dataset):
        teacher = artifact.completions.teacher
        name = f"{artifact.completions.format.name} of {_trait(teacher)}"
        return f"{name} {teacher.reference.name} seed {artifact.seed}"
    return f"teacher {_trait(artifact)} {artifact.reference.name} seed {artifact.seed}"


def _trait(teacher: Teacher) -> str:
    return teacher.trait.name if teacher.trait else "control"


def _columns(artifact: Teacher | Student | Dataset) -> dict[str, str]:
    """What runs are grouped, filtered and compared by: tags, and params of the same short names."""
    columns = {"seed": str(artifact.seed)}
    if isinstance(artifact, Student):
        columns |= {"student": artifact.reference.name, "recipe": artifact.recipe.name}
        artifact = artifact.dataset
    if isinstance(artifact, Dataset):
        columns["format"] = artifact.completions.format.name
        artifact = artifact.completions.teacher
    return {"trait": _trait(artifact), "teacher": artifact.reference.name, **columns}

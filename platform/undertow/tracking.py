"""MLflow: where students are compared. All of it is written by the sweep's own process.

    experiment            the study's name
    parent run            one a study's identity: effects, figures, tables
    child runs            one a student (kind=student), teacher (kind=teacher) and dataset (kind=dataset)

A run is found again by its tags (`undertow.study`, `undertow.key`), so that a rerun re-opens the runs of
the first instead of doubling them. Workers never write: their reports travel to the sweep, which keeps
sqlite to one writer and a lost server to one place.
"""

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from undertow.errors import UserError
from undertow.fields import Spec
from undertow.identity import canonical, key
from undertow.spec import Artifact, Dataset, Student, Teacher
from undertow.store import Manifest, Store
from undertow.study import Study

LONGEST_PARAM = 6000
LARGEST_MODEL_LOGGED = 64 * 2**20  # bytes: above it a run links to the store and holds no copy
PARAMS_A_BATCH = 100


def tracking_uri(store: Store) -> str:
    """MLFLOW_TRACKING_URI, else a sqlite file under the storage folder."""
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return uri
    if not store.is_local:
        raise UserError(
            f"--storage {store.url}: MLflow cannot keep its database there; set MLFLOW_TRACKING_URI"
        )
    return f"sqlite:///{store.root}/mlflow.db"


class Tracker:
    """One study's experiment, its parent run and the child runs of its artifacts."""

    def __init__(self, study: Study, store: Store) -> None:
        self.study, self.store = study, store
        self.uri = tracking_uri(store)
        self.study_key = key(study)
        self.parent = self._open_run({"undertow.kind": "sweep"}, study.name, None)

    @cached_property
    def client(self) -> Any:
        return _client(self.uri)

    @cached_property
    def experiment(self) -> str:
        """The experiment's id; made on first use, with its artifacts beside the store's where we host it."""
        return _experiment(self.client, self.study.name, self.store, self.uri)

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

    def epoch(self, model: Teacher | Student, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics of one epoch of a model in training, as they come."""
        self._metrics(self.run_of(model), metrics, step)

    def run_of(self, artifact: Teacher | Student | Dataset) -> str:
        """The id of the artifact's run, made with its whole spec as params when it is new."""
        known = self._known.get(f"{artifact.kind} {key(artifact)}")
        if known:
            return known[0]
        columns = _columns(artifact)
        tags = {"undertow.kind": artifact.kind, "undertow.key": key(artifact), **columns}
        run = self._open_run(tags, _name(artifact), self.parent)
        self._params(run, {**columns, **dict(_flat(canonical(artifact)))})
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
        folder = self.store.fetch(artifact)
        if isinstance(artifact, Dataset):
            self.client.log_artifact(run, str(folder / "README.md"))
        elif sum((folder / name).stat().st_size for name in manifest.files) <= LARGEST_MODEL_LOGGED:
            self.client.log_artifacts(run, str(folder), "model")
        self.client.set_terminated(run)
        self._known[f"{artifact.kind} {key(artifact)}"] = (run, "FINISHED")

    def close(self, metrics: Mapping[str, float], files: Mapping[str, bytes], *, failed: bool) -> None:
        """Ends the parent run with the sweep's own metrics and files."""
        self._metrics(self.parent, metrics, None)
        _log_files(self.client, self.parent, files)
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
        _log_metrics(self.client, run, metrics, step)

    def _params(self, run: str, params: Mapping[str, str]) -> None:
        _log_params(self.client, run, params)

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


def record(
    store: Store,
    experiment: str,
    name: str,
    spec: Spec,
    metrics: Mapping[str, float],
    files: Mapping[str, bytes],
    *,
    failed: bool = False,
) -> str:
    """Logs something finished that is no sweep as one run of `experiment`, and returns the run's id.

    Where there is a run of the same spec it is written anew: a rerun adds no second.
    """
    uri = tracking_uri(store)
    client = _client(uri)
    place = _experiment(client, experiment, store, uri)
    known = client.search_runs([place], f"tags.`undertow.key` = '{key(spec)}'", max_results=1)
    if known:
        run = str(known[0].info.run_id)
    else:
        tags = {"undertow.kind": experiment, "undertow.key": key(spec), "mlflow.source.name": "undertow"}
        run = str(client.create_run(place, tags=tags, run_name=name).info.run_id)
        _log_params(client, run, dict(_flat(canonical(spec))))
    _log_metrics(client, run, metrics, None)
    _log_files(client, run, files)
    client.set_terminated(run, "FAILED" if failed else "FINISHED")
    return run


def _client(uri: str) -> Any:
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _experiment(client: Any, name: str, store: Store, uri: str) -> str:
    """The id of the experiment called `name`, made where there is none."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    location = f"{store.root}/mlartifacts/{name}" if uri.startswith("sqlite") else None
    tags = {"mlflow.experimentKind": "custom_model_development"}  # the pages for training, not for chat
    return str(client.create_experiment(name, artifact_location=location, tags=tags))


def _log_metrics(client: Any, run: str, metrics: Mapping[str, float], step: int | None) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    client.log_batch(run, metrics=[Metric(name, value, now, step or 0) for name, value in metrics.items()])


def _log_params(client: Any, run: str, params: Mapping[str, str]) -> None:
    from mlflow.entities import Param

    items = [Param(name[:250], value[:LONGEST_PARAM]) for name, value in params.items()]
    for start in range(0, len(items), PARAMS_A_BATCH):
        client.log_batch(run, params=items[start : start + PARAMS_A_BATCH])


def _log_files(client: Any, run: str, files: Mapping[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        client.log_artifacts(run, folder)


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


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """A canonical spec as dotted names and texts, for MLflow's params."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _flat(part, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix, ", ".join(map(str, value)) if isinstance(value, list) else str(value)

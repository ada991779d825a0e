"""The few calls to MLflow that everything logged here is made of, and `record` for what is no sweep.

MLflowClient and not the fluent API: several runs are open at the same time, and no hidden active run may
catch what belongs to another.
"""

import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from undertow.errors import UserError
from undertow.storage.redaction import redacted
from undertow.storage.store import Store
from undertow.study.fields import Spec
from undertow.study.identity import canonical, key

LONGEST_NAME = 250
LONGEST_PARAM = 6000
PARAMS_A_BATCH = 100
METRICS_A_BATCH = 1000
MLFLOW = ("mlflow", "requests", "urllib3", "sqlalchemy", "sqlite3", "alembic")  # whose errors are MLflow's
S3 = ("boto3", "botocore")  # or those of the store that it keeps files in

T = TypeVar("T")


def tracking_uri(store: Store) -> str:
    """MLFLOW_TRACKING_URI, else a sqlite file under the storage folder."""
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return uri
    if not store.is_local:
        raise UserError(
            f"--storage {store.url}: MLflow cannot keep its database there; set MLFLOW_TRACKING_URI"
        )
    return f"sqlite:///{store.root}/mlflow.db"


def check_tracking(store: Store) -> None:
    """Raises UserError where MLFLOW_TRACKING_URI can be nobody's; what is away may be back in time."""
    uri = tracking_uri(store)
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return  # our own database, which is made when it is needed
    try:
        client_of(uri)
    except Exception as error:
        if not may_pass(error):
            raise


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
    client = client_of(uri)
    place = experiment_of(client, experiment, store, uri)
    known = client.search_runs([place], f"tags.`undertow.key` = '{key(spec)}'", max_results=1)
    if known:
        run = str(known[0].info.run_id)
    else:
        tags = {"undertow.kind": experiment, "undertow.key": key(spec), "mlflow.source.name": "undertow"}
        run = str(client.create_run(place, tags=tags, run_name=name).info.run_id)
        log_params(client, run, dict(flat(canonical(spec))))
    log_metrics(client, run, metrics, None)
    log_files(client, run, files)
    client.set_terminated(run, "FAILED" if failed else "FINISHED")
    return run


def client_of(uri: str) -> Any:
    """A client of the tracking server or database. Raises UserError where a URI can be nobody's."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines for each run ended
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        return MlflowClient(tracking_uri=uri)
    except (ImportError, MlflowException) as error:
        if isinstance(error, MlflowException) and "unsupported" not in str(error).lower():
            raise  # away, perhaps for now
        raise UserError(f"MLFLOW_TRACKING_URI {redacted(uri)}: {redacted(str(error)).strip()}") from None


def who_is_away(error: BaseException) -> str:
    """Whose fault an error is: MLflow's (or of its database, or the way to it), an object store's, or ""."""
    modules = {kind.__module__.split(".")[0] for kind in type(error).__mro__}
    # The connections of S3's clients fail with errors of urllib3, too.
    return "an object store" if modules & set(S3) else "MLflow" if modules & set(MLFLOW) else ""


def may_pass(error: BaseException) -> bool:
    """Whether an error is of the way to MLflow, which may be there again the next time."""
    return isinstance(error, OSError) or bool(who_is_away(error))


def experiment_of(client: Any, name: str, store: Store, uri: str) -> str:
    """The id of the experiment called `name`: made where there is none, restored where it was deleted."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    root = store.root if store.is_local else store.url
    location = f"{root}/mlartifacts/{name}" if uri.startswith("sqlite") else None
    tags = {"mlflow.experimentKind": "custom_model_development"}  # the pages for training, not for chat
    return str(client.create_experiment(name, artifact_location=location, tags=tags))


def log_metrics(
    client: Any,
    run: str,
    metrics: Mapping[str, float],
    step: int | None,
    model: str | None = None,
    dataset: Any = None,
) -> None:
    """Logs metrics to a run and, where one is named, to its logged model under an MLflow dataset.

    Without a step they are final values: those that are there already are not logged again.
    """
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    about = (model, dataset.name, dataset.digest) if dataset else (model,)
    named = metric_names(metrics)
    there = _final_values(client, run, model) if step is None else set()
    items = [Metric(*item, now, step or 0, *about) for item in named.items() if item not in there]
    for batch in batches(items, METRICS_A_BATCH):
        client.log_batch(run, metrics=batch)


def _final_values(client: Any, run: str, model: str | None) -> set[tuple[str, float]]:
    """The metrics that a run, and its model too, have already."""
    if model is None:
        return set(client.get_run(run).data.metrics.items())
    there = {(metric.key, metric.value) for metric in client.get_logged_model(model).metrics or ()}
    return there & client.get_run(run).data.metrics.items() if there else there


def log_params(client: Any, run: str, params: Mapping[str, str]) -> None:
    from mlflow.entities import Param

    items = [Param(name[:LONGEST_NAME], value[:LONGEST_PARAM]) for name, value in params.items()]
    for batch in batches(items, PARAMS_A_BATCH):
        client.log_batch(run, params=batch)


def log_files(client: Any, run: str, files: Mapping[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        client.log_artifacts(run, folder)


def batches(items: list[T], size: int) -> Iterator[list[T]]:
    """MLflow takes so many at a time and no more."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def metric_names(metrics: Mapping[str, T]) -> dict[str, T]:
    """Metrics under names that MLflow takes. Two names that would become one stay two: "p_C_", "p_C_ 2"."""
    named: dict[str, T] = {}
    for text, value in metrics.items():
        name = unique = metric_name(text)
        count = 1
        while unique in named:
            count += 1
            unique = f"{name} {count}"
        named[unique] = value
    return named


def metric_name(text: str) -> str:
    """Text in the characters that MLflow takes; no slashes, which its charts would read as sections."""
    text = text.replace("→", "to").replace(" · ", " ").replace("/", "-")
    return re.sub(r"[^\w. -]", "_", text)[: LONGEST_NAME - 10]


def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """A canonical spec as dotted names and texts, for MLflow's params."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from flat(part, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix, ", ".join(map(str, value)) if isinstance(value, list) else str(value)

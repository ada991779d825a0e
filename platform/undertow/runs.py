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
from typing import Any

from undertow.errors import UserError
from undertow.fields import Spec
from undertow.identity import canonical, key
from undertow.store import Store

LONGEST_PARAM = 6000
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
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def experiment_of(client: Any, name: str, store: Store, uri: str) -> str:
    """The id of the experiment called `name`, made where there is none."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    location = f"{store.root}/mlartifacts/{name}" if uri.startswith("sqlite") else None
    tags = {"mlflow.experimentKind": "custom_model_development"}  # the pages for training, not for chat
    return str(client.create_experiment(name, artifact_location=location, tags=tags))


def log_metrics(client: Any, run: str, metrics: Mapping[str, float], step: int | None) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    client.log_batch(
        run, metrics=[Metric(metric_name(name), value, now, step or 0) for name, value in metrics.items()]
    )


def log_params(client: Any, run: str, params: Mapping[str, str]) -> None:
    from mlflow.entities import Param

    items = [Param(name[:250], value[:LONGEST_PARAM]) for name, value in params.items()]
    for start in range(0, len(items), PARAMS_A_BATCH):
        client.log_batch(run, params=items[start : start + PARAMS_A_BATCH])


def log_files(client: Any, run: str, files: Mapping[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        client.log_artifacts(run, folder)


def metric_name(text: str) -> str:
    """Text with the characters that MLflow takes in a metric's name."""
    return re.sub(r"[^\w./ -]", "_", text.replace("→", "to").replace("·", "/"))


def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """A canonical spec as dotted names and texts, for MLflow's params."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from flat(part, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix, ", ".join(map(str, value)) if isinstance(value, list) else str(value)

"""Helpers around MLflow's client: experiments, metrics, params and files.

All calls go through `MlflowClient` and not through MLflow's fluent API: several runs are open at the same
time, and the fluent API's hidden active run would collect what belongs to another.
"""

import json
import os
import re
import sqlite3
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from undertow.errors import UserError
from undertow.storage.redaction import redacted
from undertow.storage.store import Store
from undertow.study.fields import Spec
from undertow.study.identity import canonical, digest, key
from undertow.tracking.connection_errors import is_connection_error
from undertow.tracking.database import create_database

LONGEST_NAME = 250  # characters
TABLES = "mlflow.loggedArtifacts"  # the tag by which MLflow's pages find the tables of a run
DIGEST = 12  # characters of a name's hash that replaces its middle if it is too long
LONGEST_PARAM = 6000
# MLflow's limits for one call of `log_batch`.
PARAMS_PER_BATCH = 100
METRICS_PER_BATCH = 1000
T = TypeVar("T")


def tracking_uri(store: Store) -> str:
    """MLFLOW_TRACKING_URI, or by default an SQLite database in a local storage folder.

    Raises UserError if the variable is not set and the storage is remote or its path does not fit into a URI.
    """
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return uri
    if not store.is_local:
        raise UserError(
            f"--storage {store.url}: MLflow cannot keep its database there; set MLFLOW_TRACKING_URI"
        )
    if "?" in store.root or unquote(store.root) != store.root:  # both are read as parts of a URI
        raise UserError(
            f"--storage {store.url}: MLflow cannot keep its database in a folder with ? or % in its path; "
            "choose another folder, or set MLFLOW_TRACKING_URI"
        )
    return f"sqlite:///{store.root}/mlflow.db"


def check_tracking(store: Store) -> None:
    """Raises UserError if MLFLOW_TRACKING_URI is invalid. A server that is unreachable now passes."""
    uri = tracking_uri(store)
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return  # the default database, created on first use
    try:
        connect_client(uri)
    except Exception as error:
        if not is_connection_error(error):
            raise


def log_finished_run(
    store: Store,
    experiment: str,
    name: str,
    spec: Spec,
    metrics: Mapping[str, float],
    files: Mapping[str, bytes],
    *,
    failed: bool = False,
    kind: str = "",
    parent: str = "",
) -> str:
    """Logs a result that belongs to no sweep as one run of `experiment`. Returns the run's id.

    If `experiment` already has a run of the same spec, that run is updated and no second one is created.

    Args:
        kind: the tag `undertow.kind`; by default the experiment's name.
        parent: the id of the run that this one is shown below.
    """
    uri = tracking_uri(store)
    client = connect_client(uri)
    experiment_id = get_or_create_experiment(client, experiment, store, uri)
    known = client.search_runs([experiment_id], f"tags.`undertow.key` = '{key(spec)}'", max_results=1)
    if known:
        run = str(known[0].info.run_id)
    else:
        tags = {
            "undertow.kind": kind or experiment,
            "undertow.key": key(spec),
            "mlflow.source.name": "undertow",
            **({"mlflow.parentRunId": parent} if parent else {}),
        }
        run = str(client.create_run(experiment_id, tags=tags, run_name=name).info.run_id)
        log_params(client, run, dict(flattened(canonical(spec))))
    log_metrics(client, run, metrics)
    log_files(client, run, files)
    client.set_terminated(run, "FAILED" if failed else "FINISHED")
    return run


def connect_client(uri: str) -> Any:
    """An `MlflowClient` for a tracking server or database. Raises UserError if the URI is invalid."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines for each run ended
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        _check_database(uri)
        return MlflowClient(tracking_uri=uri)
    except (ImportError, MlflowException) as error:
        text = redacted(str(error)).strip()
        if "maintenance mode" in text:  # of folders (FileStore)
            text = "MLflow keeps no runs in folders; name a server (http://HOST:5000) or a database (sqlite:///FILE)"
        elif isinstance(error, MlflowException) and "unsupported" not in text.lower():
            raise  # unreachable, perhaps only now
        raise UserError(f"MLFLOW_TRACKING_URI {redacted(uri)}: {text}") from None


def _check_database(uri: str) -> None:
    """Creates an SQLite database that does not exist; raises sqlite3.Error for one that cannot be read.

    MLflow would try to open it ten times, which takes 100 seconds, and log every attempt.
    """
    path = uri.removeprefix("sqlite:///")
    if path == uri:
        return
    if not os.path.exists(path):  # noqa: PTH110 (Path.exists raises PermissionError)
        if "?" not in uri:  # what follows is no part of the path
            create_database(Path(path))
        return
    if Path(path).is_dir():  # SQLite calls this a disk I/O error
        raise sqlite3.OperationalError(f"{path}: is a folder and not a database")
    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as database:
            database.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        raise type(error)(f"{path}: {error}") from None


def get_or_create_experiment(client: Any, name: str, store: Store, uri: str) -> str:
    """The id of the experiment called `name`, which is created if missing and restored if deleted."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    root = store.root if store.is_local else store.url
    location = f"{root}/mlartifacts/{name}" if uri.startswith("sqlite") else None
    tags = {"mlflow.experimentKind": "custom_model_development"}  # selects MLflow's pages for training
    try:
        return str(client.create_experiment(name, artifact_location=location, tags=tags))
    except Exception as error:
        if getattr(error, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
            raise
        return str(client.get_experiment_by_name(name).experiment_id)  # another sweep has just created it


def log_metrics(
    client: Any,
    run: str,
    metrics: Mapping[str, float],
    model: str | None = None,
    dataset: Any = None,
    *,
    is_new: bool = False,
) -> None:
    """Logs final metrics to a run and, if `model` is given, to that logged model under the MLflow `dataset`.

    A value that is already logged is not logged a second time.

    Args:
        is_new: whether the run was created just now, so that MLflow need not be asked for logged values.
    """
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    target = (model, dataset.name, dataset.digest) if dataset else (model,)
    named = metric_names(metrics)
    logged = set() if is_new else _final_values(client, run, model)
    new = [Metric(*item, now, 0, *target) for item in named.items() if item not in logged]
    for batch in batches(new, METRICS_PER_BATCH):
        client.log_batch(run, metrics=batch)


def log_points(client: Any, run: str, points: Iterable[tuple[int, int, Mapping[str, float]]]) -> None:
    """Logs points of several steps to a run, in few requests.

    Args:
        points: the time in Unix milliseconds, the step, and the metrics of each.
    """
    from mlflow.entities import Metric

    new = [
        Metric(name, value, at, step)
        for at, step, metrics in points
        for name, value in metric_names(metrics).items()
    ]
    for batch in batches(new, METRICS_PER_BATCH):
        client.log_batch(run, metrics=batch)


def log_curves(client: Any, run: str, points: Mapping[int, Mapping[str, float]]) -> None:
    """Logs metrics by step to a run. A value that is already logged at its step is not logged again."""
    present = {name for metrics in points.values() for name in metric_names(metrics)}
    logged = {
        (metric.key, metric.step, metric.value)
        for name in present
        for metric in client.get_metric_history(run, name)
    }
    now = int(time.time() * 1000)
    new = [
        (now, step, {name: value})
        for step, metrics in sorted(points.items())
        for name, value in metric_names(metrics).items()
        if (name, step, value) not in logged
    ]
    log_points(client, run, new)


def _final_values(client: Any, run: str, model: str | None) -> set[tuple[str, float]]:
    """The metrics that a run and, if one is given, its logged model both have."""
    if model is None:
        return set(client.get_run(run).data.metrics.items())
    of_model = {(metric.key, metric.value) for metric in client.get_logged_model(model).metrics or ()}
    return of_model & client.get_run(run).data.metrics.items() if of_model else of_model


def log_params(client: Any, run: str, params: Mapping[str, str], logged: Collection[str] = ()) -> None:
    """Logs params to a run; names beyond MLflow's limit are shortened, and values are cut.

    Args:
        logged: names that the run already has. They are skipped, because MLflow refuses to change a param.
    """
    from mlflow.entities import Param

    short = {shortened(name): value[:LONGEST_PARAM] for name, value in params.items()}
    new = [Param(name, value) for name, value in short.items() if name not in logged]
    for batch in batches(new, PARAMS_PER_BATCH):
        client.log_batch(run, params=batch)


def log_files(client: Any, run: str, files: Mapping[str, bytes]) -> None:
    """Uploads files, given by name, to a run's artifact folder."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        client.log_artifacts(run, folder)


def log_tables(client: Any, run: str, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Uploads tables of a run, which MLflow's pages show and `mlflow.load_table` reads.

    Not with MLflow's `log_table`: it appends to a table of the same name, and all sweeps of a study have the
    same run.

    Args:
        tables: rows by file name; all rows of a table have the same columns.
    """
    if not tables:
        return
    files = {}
    for name, rows in tables.items():
        columns = list(rows[0])
        cells = [[row[column] for column in columns] for row in rows]
        files[name] = json.dumps({"columns": columns, "data": cells}).encode()
    log_files(client, run, files)
    client.set_tag(run, TABLES, json.dumps([{"path": name, "type": "table"} for name in tables]))


def batches(items: list[T], size: int) -> Iterator[list[T]]:
    """`items` in lists of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def metric_names(metrics: Mapping[str, T]) -> dict[str, T]:
    """Metrics under names that MLflow accepts; a name that becomes equal to another is numbered.

    For example "p_C+" and "p_C*" become "p_C_" and "p_C_ 2".
    """
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
    """`text` in the characters that MLflow accepts; without slashes, which its charts read as sections."""
    text = text.replace("→", "to").replace(" · ", " ").replace("/", "-")
    return shortened(re.sub(r"[^\w. -]", "_", text), LONGEST_NAME - 10)  # room for a number


def shortened(name: str, length: int = LONGEST_NAME) -> str:
    """`name` if it has at most `length` characters; else with a hash of all of it in place of its middle.

    Different names stay different, and a name is shortened in the same way every time. Where students are the
    reference models of further students, the names of params nest one whole spec in another and differ only
    in their ends.
    """
    if len(name) <= length:
        return name
    end = (length - DIGEST - 2) // 2
    return f"{name[: length - DIGEST - 2 - end]}-{digest(name)[:DIGEST]}-{name[-end:]}"


def flattened(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """A canonical spec as pairs of dotted name and text, for MLflow's params."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from flattened(part, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix, ", ".join(map(str, value)) if isinstance(value, list) else str(value)

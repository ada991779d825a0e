"""Joining or starting Ray, quietly.

Inside a submitted job (`ray job submit` sets RAY_ADDRESS) the sweep joins that cluster; otherwise it starts
a Ray of its own, bound to this machine, and ends it. It never joins a cluster by accident: a bare
`ray.init()` would take any that runs on the host.

What the nodes of a cluster need is the locked environment. This package travels with the sweep, so that the
code that is run is everywhere the one that was started, whatever a node has installed; a user's study file
travels as its objects do. Credentials never travel: each node has its own.
"""

import logging
import os
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from undertow.errors import StorageError, UserError, last_line
from undertow.planning.resources import Layout, Machine, Node, planned
from undertow.storage.store import Store
from undertow.study.extensions import STUDY_MODULE

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")

# Read by libraries when they are imported, so set for this process and for every worker of a Ray of ours.
QUIET = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on Linux: bind to the loopback address
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a call after the end of Ray would start another
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "1800",  # a node with a GPU takes minutes to start
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # Train's controller polls at this pace; 2 s adds up
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one draws a box even when it is told to be silent
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # Ray Data's actors draw an error line about arguments that is none
    "RAY_worker_maximum_startup_concurrency": "16",  # at 2 CPUs Ray warns of every Train group's processes
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_task_oom_retries": "3",  # a task for which there is no memory would be begun again for ever
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the sweep, not one of its waves
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "DS_LOG_LEVEL": "error",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


def quiet() -> None:
    """Keeps third parties' logs and warnings to errors, in this process and those it starts."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore")
    for name in (
        "ray",
        "ray.data",
        "ray.train",
        "ray.tune",
        "vllm",
        "deepspeed",
        "transformers",
        "mlflow",
        "alembic",
        "stamina",  # it warns of every retry; how many there were is in the journal
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    # It prints a traceback for a trial whose node left, and begins it again; other ends are in its results.
    logging.getLogger("ray.tune.execution.tune_controller").setLevel(logging.CRITICAL)


def _quiet_ray_data() -> None:
    """Ray Data sets its logger up when it is imported: only errors reach the console, all its file."""
    import ray.data

    warnings.filterwarnings("ignore", message=".*will be removed in Ray")  # it shows its own all the same
    ray.data.DataContext.get_current().enable_progress_bars = False
    for handler in logging.getLogger("ray.data").handlers:
        if type(handler).__name__ == "PlainRayHandler":
            handler.setLevel(logging.ERROR)


def check_place(store: Store) -> None:
    """Raises UserError for a storage that a cluster's job would lose: a folder relative to the job's own."""
    if os.environ.get("RAY_ADDRESS") and store.is_relative:
        raise UserError(
            f"--storage {Path(store.url).name}: a relative folder, which ends with the job on the cluster "
            "that RAY_ADDRESS names; give a URL (s3://BUCKET/FOLDER), or the whole path of a shared folder"
        )


@contextmanager
def connect(layout: Layout = Layout(), store: Store | None = None) -> Iterator[Machine]:
    """Ray, joined where RAY_ADDRESS names a cluster, else started here and ended with the block.

    Raises UserError where the nodes have no room for the layout; StorageError where one does not see `store`.
    """
    quiet()
    import ray

    address = os.environ.get("RAY_ADDRESS")
    if address:
        package = str(Path(__file__).parents[1])
        ray.init(
            address=address,
            runtime_env={"py_modules": [package]},
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    else:
        # One process less a worker group: nobody takes the machine under a Ray of our own away.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=os.environ.get("UNDERTOW_RAY_TMP"),
        )
    _quiet_ray_data()
    for name, module in list(sys.modules.items()):
        if name.startswith(STUDY_MODULE):  # no worker can import a study file: its classes travel by value
            ray.cloudpickle.register_pickle_by_value(module)
    try:
        up = [node for node in ray.nodes() if node["Alive"]]
        if store is not None and len(up) > 1:
            check_reach(store, up)
        offered = [
            Node(int(has.get("CPU", 0)), int(has.get("GPU", 0))) for has in (n["Resources"] for n in up)
        ]
        yield Machine.of(planned(offered) if address else offered, layout)
    finally:
        ray.shutdown()


def check_reach(store: Store, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Raises StorageError naming a node that does not see what is written into the storage here.

    A folder that is not shared, a missing package or missing credentials: each would otherwise show hours
    later, on the node that is the first to make something.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    scratch = f"reach-{uuid.uuid4().hex}"
    name = f"partial/{scratch}"
    store.write_bytes(name, name.encode())
    task = ray.remote(num_cpus=0, max_retries=0)(_reads)
    asked = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            store, name
        )
        for node in nodes
    ]
    try:
        for node, answer in zip(nodes, asked, strict=True):
            try:
                reason = ray.get(answer)
            except ray.exceptions.RayError as error:  # the node lacks packages, or left
                reason = last_line(error) if _is_up(node) else ""
            if reason:
                who = f"{node['NodeManagerHostname']} ({node['NodeID'][:8]})"
                raise StorageError(f"--storage {store.url}: not to be used on node {who}: {reason}")
    finally:
        store.drop_scratch(scratch)


def _is_up(node: Mapping[str, Any]) -> bool:
    """Whether a node is still there: of one that left nothing is asked."""
    import ray

    return any(now["Alive"] for now in ray.nodes() if now["NodeID"] == node["NodeID"])


def _reads(store: Store, name: str) -> str:
    """Why this node does not find a file in the storage; "" where it does."""
    try:
        found = store.read_bytes(name) == name.encode()
    except Exception as error:  # every filesystem has errors of its own
        return last_line(error)
    return "" if found else "what is written there elsewhere is not found; name a place that all nodes share"


def spread(function: Callable[[Shared, Item], Result], shared: Shared, items: Sequence[Item]) -> list[Result]:
    """function(shared, item) for every item, one CPU each, over Ray; the results in the order of the items.

    `shared` travels once. The first failure ends the call.
    """
    with connect():
        import ray

        task = ray.remote(num_cpus=1)(function)
        held = ray.put(shared)
        found: list[Result] = ray.get([task.remote(held, item) for item in items])
        return found

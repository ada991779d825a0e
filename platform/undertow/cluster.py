"""The machine a sweep runs on: joining or starting Ray, quietly, and dividing what it has.

Inside a submitted job (`ray job submit` sets RAY_ADDRESS) the sweep joins that cluster; otherwise it starts
a Ray of its own, bound to this machine, and ends it. It never joins a cluster by accident: a bare
`ray.init()` would take any that runs on the host.
"""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from undertow.errors import UserError
from undertow.studies import STUDY_MODULE

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")

# Read by libraries when they are imported, so set for this process and for every worker of a Ray of ours.
QUIET = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on Linux: bind to the loopback address
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # Train's controller polls at this pace; 2 s adds up
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one draws a box even when it is told to be silent
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # Ray Data's actors draw an error line about arguments that is none
    "RAY_worker_maximum_startup_concurrency": "16",  # at 2 CPUs Ray warns of every Train group's processes
    "RAY_USAGE_STATS_ENABLED": "0",
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


@dataclass(frozen=True)
class Machine:
    """How a cluster's CPUs and GPUs are divided. Says how fast, never what comes out.

    Attributes:
        actors: vLLM engines at work on one machine's worth of tasks.
        slots: worker groups that train at the same time, each of `workers` workers.
    """

    actors: int
    slots: int
    workers: int
    cpus_per_engine: int = 1
    gpus_per_engine: int = 0
    gpus_per_worker: int = 0

    @classmethod
    def of(cls, cpus: int, gpus: int, workers: int) -> "Machine":
        """GPUs, where there are any, go to engines and workers one each; else CPUs do."""
        units = gpus or cpus
        if workers > units:
            what = "GPUs" if gpus else "CPUs"
            raise UserError(f"--workers {workers}: the machine has {units} {what}; ask for at most {units}")
        on_gpu = 1 if gpus else 0
        return cls(units, units // workers, workers, gpus_per_engine=on_gpu, gpus_per_worker=on_gpu)

    def share(self, parts: int) -> "Machine":
        """A part of the engines, for pipelines that run side by side."""
        return replace(self, actors=max(1, self.actors // parts))


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


def _quiet_ray_data() -> None:
    """Ray Data sets its logger up when it is imported: only errors reach the console, all its file."""
    import ray.data

    warnings.filterwarnings("ignore", message=".*will be removed in Ray")  # it shows its own all the same
    ray.data.DataContext.get_current().enable_progress_bars = False
    for handler in logging.getLogger("ray.data").handlers:
        if type(handler).__name__ == "PlainRayHandler":
            handler.setLevel(logging.ERROR)


@contextmanager
def connect(workers: int) -> Iterator[Machine]:
    """Ray, joined where RAY_ADDRESS names a cluster, else started here and ended with the block."""
    quiet()
    import ray

    address = os.environ.get("RAY_ADDRESS")
    if address:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
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
        resources = ray.cluster_resources()
        yield Machine.of(int(resources.get("CPU", 1)), int(resources.get("GPU", 0)), workers)
    finally:
        ray.shutdown()


def spread(function: Callable[[Shared, Item], Result], shared: Shared, items: Sequence[Item]) -> list[Result]:
    """function(shared, item) for every item, one CPU each, over Ray; the results in the order of the items.

    `shared` travels once. The first failure ends the call.
    """
    with connect(workers=1):
        import ray

        task = ray.remote(num_cpus=1)(function)
        held = ray.put(shared)
        found: list[Result] = ray.get([task.remote(held, item) for item in items])
        return found

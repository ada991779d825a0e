"""The environment of Ray, vLLM, DeepSpeed, transformers and MLflow: logs and warnings are kept to errors.

Libraries read most of these environment variables when they are imported, so `quiet` comes first in the
driver and in every worker. A variable that the user has set keeps its value.
"""

import logging
import os
import warnings

VARIABLES = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # also on Linux: bind to the loopback address
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a call after ray.shutdown() would start another Ray
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "1800",  # a node with a GPU takes minutes to start
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # the default, 2 s, delays every worker group
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output draws a box even with verbose=0
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # Ray Data's actors log a false error about their arguments
    "RAY_worker_maximum_startup_concurrency": "16",  # on 2 CPUs Ray warns about every worker group
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_task_oom_retries": "3",  # by default a task that exceeds the memory is retried forever
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the sweep, not only Tune's wave
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    # Threads of torch and vLLM sleep while they wait for each other. Ray gives its workers a low priority:
    # when another program kept one of two cores busy, training steps took 7 times as long with spinning
    # threads and 1.6 times as long with sleeping threads. On an idle machine there was no difference.
    "OMP_WAIT_POLICY": "PASSIVE",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "DS_LOG_LEVEL": "error",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # otherwise two lines for every run that ends
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
LOGGERS = (
    "ray",
    "ray.data",
    "ray.train",
    "ray.tune",
    "vllm",
    "deepspeed",
    "transformers",
    "mlflow",
    "alembic",
    "matplotlib.font_manager",  # it announces that it lists the fonts, the first time on a machine
    "stamina",  # it warns about every retry; the event log counts them
)


def set_variables() -> None:
    """Sets the environment variables for this process and the processes that it starts."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)


def quiet_deepspeed() -> None:
    """Makes DeepSpeed, which transformers imports, log no warning on a machine without a GPU."""
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def quiet() -> None:
    """Sets the variables, for this process and those that it starts, and this process's log levels."""
    set_variables()
    warnings.filterwarnings("ignore")
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    # Tune logs a traceback for a trial whose node left, then restarts it; other failures are in its results.
    logging.getLogger("ray.tune.execution.tune_controller").setLevel(logging.CRITICAL)
    # It logs a traceback for each error of the database, such as a full disk. The sweep reports the reason.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    # If the storage does not answer, they log screens of tracebacks about state that no sweep restores.
    for name in ("ray.tune.execution.experiment_state", "ray.train._internal.storage"):
        logging.getLogger(name).setLevel(logging.CRITICAL)

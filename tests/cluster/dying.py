"""Work that dies for lack of memory, on a real Ray: `python -m tests.cluster.dying WORK`, a line for each.

tasks      one task is killed by a kernel, others ask torch and numpy for more than there is
monitor    a task is killed by Ray's own memory monitor, which is told to allow next to nothing
training   a worker group of Ray Train is killed, another is out of a GPU's memory
"""

import os
import signal
import sys
import time
from collections.abc import Callable

from undertow.cluster.connection import connect
from undertow.cluster.tasks import run_each
from undertow.engines.quiet import quiet
from undertow.stages.finetuning import attempt

PETABYTE = 2**50
ON_GPU = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.25 GiB"


def vanish(*_: object) -> None:
    """What a kernel does that is out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def hold(*_: object) -> None:
    time.sleep(120)


def grow_tensor(*_: object) -> None:
    import torch

    torch.empty(PETABYTE)


def grow_array(*_: object) -> None:
    import numpy as np

    np.empty(PETABYTE)


def fill_gpu(*_: object) -> None:
    import torch

    raise torch.OutOfMemoryError(ON_GPU)


def run_tasks(*works: Callable[..., None]) -> None:
    """Each as the sweep runs its tasks."""

    def call(work: Callable[..., None], nothing: None) -> None:
        work()

    for work, failure in run_each(call, None, works):
        print(f"{work.__name__}: {failure[0] if failure else 'it ended well'}", flush=True)


def train(work: Callable[..., None]) -> None:
    """A worker group, as a sweep's trial drives it."""
    import ray.train
    from ray.train.torch import TorchTrainer

    failures = ray.train.FailureConfig(max_failures=1)
    trainer = TorchTrainer(
        work,
        train_loop_config={},
        scaling_config=ray.train.ScalingConfig(num_workers=1),
        run_config=ray.train.RunConfig(storage_path=os.environ["UNDERTOW_RAY_TMP"], failure_config=failures),
    )
    print(f"{work.__name__}: {attempt(lambda: trainer.fit() and None, 1)}", flush=True)


def main(work: str) -> None:
    quiet()
    with connect():
        if work == "training":
            train(vanish)
            train(fill_gpu)
        elif work == "monitor":
            run_tasks(hold)
        else:
            run_tasks(vanish, grow_tensor, grow_array)


if __name__ == "__main__":
    main(*sys.argv[1:])

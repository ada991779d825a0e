"""Work that runs out of memory on a real Ray: `python -m tests.cluster.dying WORK` prints the reasons.

tasks      one task is killed as by the kernel, others allocate more memory than there is in torch and numpy
workers    tasks in processes that stay up, one of which is killed
engines    tasks of an engine, two of which kill its process at each attempt and one at the first
monitor    a task is killed by Ray's memory monitor, whose threshold the test sets to almost zero
training   a worker group of Ray Train is killed, another is out of GPU memory
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.engines.toy_engine import TOY
from undertow.cluster import engine_pool, tasks
from undertow.cluster.connection import connect
from undertow.cluster.tasks import RETRIES, TaskWorkers, run_each
from undertow.engines.protocol import Engine
from undertow.engines.quiet import quiet
from undertow.engines.registry import register_engine
from undertow.planning.resources import Machine
from undertow.stages.finetuning import attempt
from undertow.storage.store import Store
from undertow.study.references import Artifact, Reference

MODEL = Reference("toy/model", "1", "none")
DEADLY = {"first": 0, "poison 1": 9, "second": 0, "poison 2": 9, "unlucky": 1, "last": 0}  # kills by task
PETABYTE = 2**50
ON_GPU = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.25 GiB"


def say(line: str) -> None:
    """Prints a line of its own: a thread of Ray may be printing a message, whose line is not complete."""
    sys.stdout.write(f"\n{line}\n")
    sys.stdout.flush()


def vanish(*_: object) -> None:
    """Kills the process as a kernel does that is out of memory."""
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
    """Runs each function as a sweep runs its tasks, and prints the reason of its failure."""

    def call(work: Callable[..., None], nothing: None) -> None:
        work()

    for work, failure in run_each(call, None, works):
        say(f"{work.__name__}: {failure[0] if failure else 'succeeded'}")


def run_in_workers() -> None:
    """Runs tasks in processes that stay up, and prints how many processes ran them."""
    workers = TaskWorkers()
    folder = Path(os.environ["UNDERTOW_RAY_TMP"]) / "processes"
    folder.mkdir()

    def note(number: int, folder: Path) -> None:
        time.sleep(0.2)
        (folder / f"{number} {os.getpid()}").touch()

    def kill(number: int, nothing: None) -> None:
        vanish()

    def kill_thrice(number: int, folder: Path) -> None:
        if (count := len(list(folder.glob(f"{number} died*")))) < RETRIES:
            (folder / f"{number} died {count}").touch()
            vanish()

    def processes(*numbers: int) -> set[str]:
        assert all(failure is None for _, failure in workers.run_each(note, folder, numbers))
        return {file.name.split()[1] for file in folder.iterdir() if int(file.name.split()[0]) in numbers}

    first, second, both = processes(1), processes(2), processes(3, 4)
    say(f"one after the other: {len(first | second)}")
    say(f"two at a time: {len(both)}, {'the' if first <= both else 'not the'} first")
    ((_, failure),) = workers.run_each(kill, None, [5])
    say(f"kill: {failure[0] if failure else 'succeeded'}")
    say(f"after it: {len(processes(6, 7))}")
    again = [failure for item in (8, 9) for _, failure in workers.run_each(kill_thrice, folder, [item])]
    say(f"killed three times each: {again}")
    for process in processes(10, 11):
        os.kill(int(process), signal.SIGKILL)
    tasks.RETRIES = 1  # fewer than the idle processes
    ((_, failure),) = workers.run_each(note, folder, [12])
    say(f"after the end of all: {failure}")


@dataclass(frozen=True)
class Deadly:
    """A task of an engine that kills its process at the first attempts."""

    name: str
    kills: int
    folder: Path
    lora_rank: int = 0
    window: int = 0

    @property
    def artifact(self) -> Artifact:
        return MODEL

    def run(self, engine: Engine, store: Store) -> dict[str, Any]:
        attempt = len(list(self.folder.glob(f"{self.name} *")))
        (self.folder / f"{self.name} {attempt}").touch()
        if attempt < self.kills:
            vanish()
        return {"answers": 1}


def run_on_engines() -> None:
    """Runs tasks on one engine, and prints the attempts and the error of each."""
    folder = Path(os.environ["UNDERTOW_RAY_TMP"]) / "attempts"
    folder.mkdir()
    register_engine(TOY)
    deadly = [Deadly(name, kills, folder) for name, kills in DEADLY.items()]
    machine = Machine(actors=1, slots=1, workers=1)
    outcomes = {o.task: o.error for o in engine_pool.run_tasks(MODEL, Store(str(folder)), deadly, machine)}
    for number, task in enumerate(deadly):
        say(f"{task.name}: {len(list(folder.glob(f'{task.name} *')))} attempts, {outcomes[number]}")


def train(work: Callable[..., None]) -> None:
    """Runs a worker group as a trial of a sweep does, and prints the reason of its failure."""
    import ray.train
    from ray.train.torch import TorchTrainer

    failures = ray.train.FailureConfig(max_failures=1)
    trainer = TorchTrainer(
        work,
        train_loop_config={},
        scaling_config=ray.train.ScalingConfig(num_workers=1),
        run_config=ray.train.RunConfig(storage_path=os.environ["UNDERTOW_RAY_TMP"], failure_config=failures),
    )
    say(f"{work.__name__}: {attempt(lambda: trainer.fit() and None, 1)}")


def main(work: str) -> None:
    quiet()
    with connect():
        if work == "workers":
            run_in_workers()
        elif work == "engines":
            run_on_engines()
        elif work == "training":
            train(vanish)
            train(fill_gpu)
        elif work == "monitor":
            run_tasks(hold)
        else:
            run_tasks(vanish, grow_tensor, grow_array)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The trainer of a worker group: how its workers are connected, and what it imports and starts."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys

import ray.train

from undertow.cluster.trainer import make_trainer

on_gpu = sys.argv[1] == "gpu"
trainer = make_trainer(
    print,
    on_gpu=on_gpu,
    train_loop_config={},
    scaling_config=ray.train.ScalingConfig(num_workers=1, use_gpu=on_gpu),
    run_config=ray.train.RunConfig(storage_path=sys.argv[2]),
)
print(trainer.backend_config.to_dict().get("backend"), "torch" in sys.modules)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("device", "backend"), [("gpu", "nccl True"), ("cpu", "None False")])
def test_only_a_trial_of_gpus_imports_torch(device: str, backend: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, device, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == backend


ON_RAY = """
import sys

import ray
import ray.train

from undertow.cluster.connection import connect


def work(settings):
    import torch.distributed

    group = torch.ones(1)
    torch.distributed.all_reduce(group)
    started_with = ray.get_runtime_context().runtime_env.to_dict()
    with open(f"{settings['folder']}/{torch.distributed.get_rank()}", "w") as file:
        print(int(group), started_with, file=file)


class Trial:
    def train(self, folder):
        from undertow.cluster.trainer import make_trainer

        make_trainer(
            work,
            on_gpu=False,
            train_loop_config={"folder": folder},
            scaling_config=ray.train.ScalingConfig(num_workers=2, resources_per_worker={"CPU": 0.5}),
            run_config=ray.train.RunConfig(storage_path=f"{folder}/state"),
        ).fit()


with connect():
    ray.get(ray.remote(num_cpus=0)(Trial).remote().train.remote(sys.argv[1]))
    print(*sorted(actor["ActorClassName"] for actor in ray._private.state.actors().values()))
"""


@pytest.mark.stack
def test_a_worker_group_on_a_local_ray_starts_its_workers_only_and_connects_them(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ON_RAY, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "RayTrainWorker RayTrainWorker Trial"
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["2 {}\n"] * 2


LOST_WHILE_CONNECTING = """
import os
import sys
import time
from pathlib import Path

import ray
import ray.train

from undertow.cluster import trainer
from undertow.cluster.connection import connect
from undertow.cluster.worker_failures import TRAINING, in_words

real = trainer._connect


class Trial:
    def train(self, folder, times, cpus):
        losses = Path(folder) / "losses"

        def lost(address, port, rank, world):
            before = len(losses.read_text()) if losses.exists() else 0
            if before == times:
                real(address, port, rank, world)
            elif rank == 0:
                time.sleep(600)  # waits for the others, as torch does
            else:
                losses.write_text("x" * (before + 1))
                os._exit(1)

        trainer._connect = lost
        settings = {
            "scaling_config": ray.train.ScalingConfig(num_workers=2, resources_per_worker={"CPU": cpus / 2}),
            "run_config": ray.train.RunConfig(
                storage_path=f"{folder}/state", failure_config=ray.train.FailureConfig(max_failures=1)
            ),
        }
        try:
            trainer.make_trainer(print, on_gpu=False, train_loop_config={}, **settings).fit()
        except Exception as error:
            return f"{len(losses.read_text())} losses: {in_words(error, TRAINING)}"
        return "trained"


with connect():
    cpus = ray.cluster_resources()["CPU"]
    print(ray.get(ray.remote(num_cpus=0)(Trial).remote().train.remote(sys.argv[1], int(sys.argv[2]), cpus)))
"""


@pytest.mark.stack
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("times", "begins"),
    [
        pytest.param(1, "trained", id="the others leave their CPUs to the next start"),
        pytest.param(9, "2 losses: its process was killed or crashed", id="not started again without end"),
    ],
)
def test_a_worker_that_is_lost_while_it_connects(times: int, begins: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOST_WHILE_CONNECTING, str(tmp_path), str(times)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=150)
    assert done.stdout.splitlines()[-1].startswith(begins)

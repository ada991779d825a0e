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

real = trainer._connect


class Trial:
    def train(self, folder, cpus):
        first = Path(folder) / "first"

        def lost_once(address, port, rank, world):
            if rank == 0 and not first.exists():
                time.sleep(600)  # waits for the others, as torch does
            if rank == 1 and not first.exists():
                first.touch()
                os._exit(1)
            real(address, port, rank, world)

        trainer._connect = lost_once
        trainer.make_trainer(
            lambda settings: (Path(folder) / "trained").touch(),
            on_gpu=False,
            train_loop_config={},
            scaling_config=ray.train.ScalingConfig(num_workers=2, resources_per_worker={"CPU": cpus / 2}),
            run_config=ray.train.RunConfig(storage_path=f"{folder}/state"),
        ).fit()


with connect():
    cpus = ray.cluster_resources()["CPU"]
    ray.get(ray.remote(num_cpus=0)(Trial).remote().train.remote(sys.argv[1], cpus))
"""


@pytest.mark.stack
@pytest.mark.timeout(180)
def test_workers_that_wait_for_one_that_was_lost_leave_their_cpus_to_the_next_start(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOST_WHILE_CONNECTING, str(tmp_path)]
    subprocess.run(command, capture_output=True, text=True, check=True, timeout=150)
    assert (tmp_path / "trained").exists()

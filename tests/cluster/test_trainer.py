"""The trainer of a worker group: how its workers are connected, and what the trial's process imports."""

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

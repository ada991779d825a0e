"""Work that really dies for lack of memory: each end is a line that names the cause and what to turn."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from undertow.cluster.worker_failures import TASKS, TRAINING

ROOT = Path(__file__).parents[2]
VANISHED = "its process was killed from outside, most often because the machine ran out of memory"

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


@pytest.fixture
def folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="ud-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield folder  # Ray's sockets need a short path


def said(work: str, folder: str, **more: str) -> dict[str, str]:
    """The reason by work, as the sweep would write it down."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}",
        "UNDERTOW_RAY_TMP": folder,
        **more,
    }
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-m", "tests.cluster.dying", work]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)


def test_a_task_that_was_killed_or_asked_for_too_much_names_memory_and_the_knob(folder: str) -> None:
    reasons = said("tasks", folder)
    assert reasons["vanish"] == f"{VANISHED}; {TASKS.machine}"
    for work in ("grow_tensor", "grow_array"):
        assert reasons[work].startswith("the machine is out of memory (")
        assert reasons[work].endswith(TASKS.machine)


def test_a_task_that_rays_memory_monitor_kills_ends_and_names_memory_and_the_knob(folder: str) -> None:
    reasons = said("monitor", folder, RAY_memory_usage_threshold="0.001")
    assert reasons["hold"].startswith("the machine is out of memory (")
    assert reasons["hold"].endswith(TASKS.machine)


def test_a_training_that_dies_for_memory_names_it_and_the_knob(folder: str) -> None:
    reasons = said("training", folder)
    assert reasons["vanish"] == f"{VANISHED}; {TRAINING.machine}"
    assert reasons["fill_gpu"].startswith("the GPU is out of memory (torch.OutOfMemoryError: CUDA out of")
    assert reasons["fill_gpu"].endswith(TRAINING.gpu)

"""Tests with processes that run out of memory: one line names the cause and the setting to change."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.dying import DEADLY
from undertow.cluster.worker_failures import ENGINES, TASKS, TRAINING, vanished

ROOT = Path(__file__).parents[2]
VANISHED = (
    "its process was killed or crashed without a message; if the kernel killed it for lack of memory "
    "(`dmesg` shows that)"
)
KILLED_TWICE = f"its engine's process died at each of 2 attempts: it {vanished(ENGINES)}"

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


@pytest.fixture
def folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="ud-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield folder  # Ray's sockets need a short path


def reasons_of(work: str, folder: str, **more: str) -> dict[str, str]:
    """Runs `tests.cluster.dying`; returns the reason of each failure as a sweep would record it."""
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


@pytest.mark.joint
def test_a_task_out_of_memory_names_the_setting_to_change(folder: str) -> None:
    reasons = reasons_of("tasks", folder)
    assert reasons["vanish"] == f"{VANISHED}, {TASKS.machine}"
    for work in ("grow_tensor", "grow_array"):
        assert reasons[work].startswith("the machine is out of memory (")
        assert reasons[work].endswith(TASKS.machine)


def test_processes_for_tasks_stay_up_and_are_replaced_when_they_die(folder: str) -> None:
    printed = reasons_of("workers", folder)  # messages of Ray too
    assert printed["one after the other"] == "1"
    assert printed["two at a time"] == "2, the first"
    assert printed["kill"] == f"{VANISHED}, {TASKS.machine}"
    assert printed["after it"] == "2"
    assert printed["killed three times each"] == "[None, None]"  # each item has retries of its own
    assert printed["after the end of all"] == "None"  # idle ones that died cost a task one retry


def test_a_task_that_kills_its_engine_at_each_attempt_fails_alone(folder: str) -> None:
    printed = reasons_of("engines", folder)
    assert {name: printed[name] for name in DEADLY} == {
        "first": "1 attempts, ",
        "poison 1": f"2 attempts, {KILLED_TWICE}",
        "second": "1 attempts, ",
        "poison 2": f"2 attempts, {KILLED_TWICE}",
        "unlucky": "2 attempts, ",
        "last": "1 attempts, ",
    }


def test_a_task_killed_by_the_memory_monitor_of_ray_names_the_setting_to_change(folder: str) -> None:
    reasons = reasons_of("monitor", folder, RAY_memory_usage_threshold="0.001")
    assert reasons["hold"].startswith("the machine is out of memory (")
    assert reasons["hold"].endswith(TASKS.machine)


def test_a_training_out_of_memory_names_the_setting_to_change(folder: str) -> None:
    reasons = reasons_of("training", folder)
    assert reasons["vanish"] == f"{VANISHED}, {TRAINING.machine}"
    assert reasons["fill_gpu"].startswith("the GPU is out of memory (torch.OutOfMemoryError: CUDA out of")
    assert reasons["fill_gpu"].endswith(TRAINING.gpu)

"""A short run of a chaos program, in a process that adopts orphans."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1500)]


def test_a_sweep_that_is_killed_and_one_that_loses_a_node_in_each_wave_end_with_equal_bytes() -> None:
    command = [sys.executable, "-m", "tests.chaos.leaving", "--killed"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr  # lists the failed checks

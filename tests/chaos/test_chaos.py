"""The short form of the chaos harness: one story, in a process that adopts what is orphaned."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.stack
@pytest.mark.timeout(900)
def test_a_study_that_is_killed_again_and_again_ends_as_an_undisturbed_one() -> None:
    command = [sys.executable, "-m", "tests.chaos", "--seed", "0", "--story", "0"]
    command += ["--faults", "driver", "engine", "worker"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout)  # the seed and the instants, where it fails
    assert done.returncode == 0, done.stdout + done.stderr

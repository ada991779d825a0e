"""Short runs of the chaos programs, each in a process that adopts orphans."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def undisturbed() -> Iterator[Path]:
    """The folder in which the first test stores an undisturbed sweep for the others."""
    folder = Path(tempfile.mkdtemp(prefix="uc-", dir="/tmp"))  # Ray's sockets need a short path
    yield folder / "undisturbed"
    shutil.rmtree(folder, ignore_errors=True)


def run(program: str, *arguments: str) -> None:
    """Runs a chaos program, which prints the failed checks."""
    command = [sys.executable, "-m", program, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout)  # seed, instants and measurements of a failed run
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_study_that_is_killed_ends_like_an_undisturbed_one(undisturbed: Path) -> None:
    story = ("--kills", "1", "--seed", "0", "--story", "0", "--faults", "driver", "engine", "worker")
    run("tests.chaos", *story, "--undisturbed", str(undisturbed))


def test_a_sweep_survives_the_loss_of_a_node_in_each_wave_without_a_rerun(undisturbed: Path) -> None:
    run("tests.chaos.leaving", "--undisturbed", str(undisturbed))

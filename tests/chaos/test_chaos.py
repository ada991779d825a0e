"""The short forms of the chaos harness, each in a process that adopts what is orphaned."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def undisturbed() -> Iterator[Path]:
    """Where the first of them keeps a sweep that nobody disturbs, for the others."""
    folder = Path(tempfile.mkdtemp(prefix="uc-", dir="/tmp"))  # Ray's sockets need a short path
    yield folder / "undisturbed"
    shutil.rmtree(folder, ignore_errors=True)


def tell(program: str, *arguments: str) -> None:
    """Runs a program of the harness, which says what did not hold."""
    command = [sys.executable, "-m", program, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout)  # the seed, instants and figures, where it fails
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_study_that_is_killed_again_and_again_ends_as_an_undisturbed_one(undisturbed: Path) -> None:
    story = ("--kills", "3", "--seed", "0", "--story", "0", "--faults", "driver", "engine", "worker")
    tell("tests.chaos", *story, "--undisturbed", str(undisturbed))


def test_a_sweep_goes_on_without_a_rerun_where_a_node_leaves_in_each_of_its_waves(undisturbed: Path) -> None:
    tell("tests.chaos.leaving", "--undisturbed", str(undisturbed))


def test_a_sweep_of_many_conditions_keeps_its_memory_and_open_files_and_leaves_no_process() -> None:
    tell("tests.chaos.resources", "--conditions", "30")

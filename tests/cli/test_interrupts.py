"""How scripts end when they are interrupted or a service is unreachable. For whole sweeps see tests/chaos."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from undertow.cli.entry import KEPT

ROOT = Path(__file__).parents[2]
PROGRAM = """
import time
from dataclasses import dataclass
from undertow.cli.entry import enter

@dataclass(frozen=True)
class Arguments:
    "No arguments."

def main(arguments, console):
    try:
        console.print("working")
        START
        time.sleep(60)
    finally:
        print("cleaning up", flush=True)
        time.sleep(SECONDS)
    return 0

enter(main, Arguments)
"""
UNREACHABLE = """
import botocore.exceptions, sqlite3
from dataclasses import dataclass
from undertow.cli.entry import enter

@dataclass(frozen=True)
class Arguments:
    "No arguments."

def main(arguments, console):
    raise ERROR

enter(main, Arguments)
"""

INTERRUPTED_IN_CALLBACK = """
import os, signal, time, weakref
from dataclasses import dataclass
from undertow.cli.entry import enter

class Thing:
    "Its weak reference has a callback, in which Python discards exceptions."

@dataclass(frozen=True)
class Arguments:
    "No arguments."

def main(arguments, console):
    thing = Thing()
    kept = weakref.ref(thing, lambda gone: os.kill(os.getpid(), signal.SIGINT))
    del thing
    time.sleep(60)
    return 0

enter(main, Arguments)
"""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("sqlite3.OperationalError('database is locked')", "MLflow is unreachable (database is locked)"),
        (
            "botocore.exceptions.NoCredentialsError()",
            "an object store is unreachable (Unable to locate credentials)",
        ),
    ],
)
def test_an_unreachable_service_is_reported_in_one_line(error: str, line: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "platform")}
    program = UNREACHABLE.replace("ERROR", error)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"{line}; {KEPT}\n"


def started(seconds: float, start: str = "pass") -> "subprocess.Popen[str]":
    """A program that has run `start` and is working; after an interrupt, it cleans up for `seconds`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "platform"), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace("SECONDS", str(seconds)).replace("START", start)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    return process


def test_the_first_interrupt_stops_in_order_and_tells_how_to_continue() -> None:
    process = started(0)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output.startswith("cleaning up")
    assert f"stopped; {KEPT}" in output
    assert errors == "stopping; press Ctrl-C again to end at once\n"


def test_sigterm_stops_in_order_however_often_it_is_sent() -> None:
    """Slurm sends it to all processes of a job, and the job script forwards it."""
    process = started(1)
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "cleaning up\n"
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert f"stopped; {KEPT}" in output
    assert errors == "stopping after SIGTERM\n"


def test_an_interrupt_after_sigterm_ends_at_once() -> None:
    process = started(600)
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "cleaning up\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert f"ended at once; {KEPT}" in errors


def test_the_second_interrupt_ends_at_once() -> None:
    process = started(600)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "cleaning up\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)  # it would clean up for ten minutes
    assert process.returncode == 130
    assert f"ended at once; {KEPT}" in errors


def test_an_interrupt_that_python_discards_is_raised_again() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "platform")}
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IN_CALLBACK],
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 130
    assert f"stopped; {KEPT}" in done.stdout
    assert done.stderr == "stopping; press Ctrl-C again to end at once\n"


def test_the_second_interrupt_ends_child_processes() -> None:
    start = "import subprocess; print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid)"
    process = started(600, start)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "cleaning up\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    deadline = time.monotonic() + 60
    while not is_ended(child) and time.monotonic() < deadline:  # the signal may arrive after the wait
        time.sleep(0.05)
    assert is_ended(child)


def is_ended(process: int) -> bool:
    try:
        return bool(psutil.Process(process).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True

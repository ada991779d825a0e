"""How a door ends before its work does. With a whole sweep behind it: tests/chaos."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import time
from dataclasses import dataclass
from undertow.cli.entry import enter

@dataclass(frozen=True)
class Arguments:
    "Nothing to ask."

def main(arguments, console):
    try:
        console.print("at work")
        START
        time.sleep(60)
    finally:
        print("in order", flush=True)
        time.sleep(SECONDS)
    return 0

enter(main, Arguments)
"""
AWAY = """
import botocore.exceptions, sqlite3
from dataclasses import dataclass
from undertow.cli.entry import enter

@dataclass(frozen=True)
class Arguments:
    "Nothing to ask."

def main(arguments, console):
    raise ERROR

enter(main, Arguments)
"""

DEAF = """
import os, signal, time, weakref
from dataclasses import dataclass
from undertow.cli.entry import enter

class Thing:
    "Is interrupted where Python ignores what is raised."

@dataclass(frozen=True)
class Arguments:
    "Nothing to ask."

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
        ("sqlite3.OperationalError('database is locked')", "MLflow is away (database is locked)"),
        (
            "botocore.exceptions.NoCredentialsError()",
            "an object store is away (Unable to locate credentials)",
        ),
    ],
)
def test_what_is_away_at_the_end_is_said_in_a_line(error: str, line: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "platform")}
    program = AWAY.replace("ERROR", error)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"{line}; run the same command again, what was made is kept\n"


def started(seconds: float, start: str = "pass") -> "subprocess.Popen[str]":
    """A program at work, which did `start` before and needs so many seconds to end in order."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "platform"), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace("SECONDS", str(seconds)).replace("START", start)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    return process


def test_once_ends_in_order_and_says_how_to_go_on() -> None:
    process = started(0)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output.startswith("in order")
    assert "the same command goes on from there" in output
    assert errors == "stopping; ctrl-c again ends at once\n"


def test_twice_ends_at_once() -> None:
    process = started(600)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "in order\n"
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - began < 30
    assert "ended at once; what is finished is kept" in errors


def test_a_stop_that_python_would_ignore_is_heard() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "platform")}
    done = subprocess.run(
        [sys.executable, "-c", DEAF], env=environment, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 130
    assert "the same command goes on from there" in done.stdout
    assert done.stderr == "stopping; ctrl-c again ends at once\n"


def test_ending_at_once_ends_what_was_started() -> None:
    start = "import subprocess; print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid)"
    process = started(600, start)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "in order\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE

"""How a door ends before its work does. With a whole sweep behind it: tests/chaos."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = """
import time
from dataclasses import dataclass
from undertow.door import enter

@dataclass(frozen=True)
class Arguments:
    "Nothing to ask."

def main(arguments, console):
    try:
        console.print("at work")
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
from undertow.door import enter

@dataclass(frozen=True)
class Arguments:
    "Nothing to ask."

def main(arguments, console):
    raise ERROR

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


def started(seconds: float) -> "subprocess.Popen[str]":
    """A program at work that needs so many seconds to end in order."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "platform"), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace("SECONDS", str(seconds))],
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

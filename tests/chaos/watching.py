"""Checks of one sweep in a new folder, which is kept if a check failed."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from tests.chaos import processes


def watch(prefix: str, problems: Callable[[Path, Console], Iterator[str]]) -> int:
    """Runs checks in a new folder and prints their problems; returns the exit code, 1 if there are any."""
    processes.adopt()
    console = Console(width=200, highlight=False, markup=False, soft_wrap=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))  # Ray's sockets need a short path
    try:
        found = list(problems(folder, console))
    finally:
        left = processes.end_remaining(0.0)
    for problem in found:
        console.print(f"PROBLEM: {problem}")
    if not found and not left:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if found else 0

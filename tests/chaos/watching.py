"""One sweep watched from its start to its end, in a folder that is kept where something did not hold."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from tests.chaos import processes


def watch(prefix: str, problems: Callable[[Path, Console], Iterator[str]]) -> int:
    """Prints the problems of what is done in a fresh folder; the exit code: 1 where there are any."""
    processes.adopt()
    console = Console(width=200, highlight=False, markup=False, soft_wrap=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))  # Ray's sockets need a short path
    try:
        found = list(problems(folder, console))
    finally:
        left = processes.end_those_left(0.0)
    for problem in found:
        console.print(f"PROBLEM: {problem}")
    if not found and not left:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if found else 0

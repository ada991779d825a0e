"""What a sweep of many small conditions holds on to: `python -m tests.chaos.resources --conditions 200`.

A sweep that kept something of each condition (a connection, a thread, a data frame) would run well in every
test and end the night before the last condition. So memory and open files of the sweep's own process, and of
all that it started, are read once a second; over the second half of each long wave they may not rise by more
than is allowed here, and when the sweep has ended none of its processes may be left.

Prints a line a wave. Exit code 1 where anything did not hold.
"""

import math
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import tyro
from rich.console import Console

from tests.chaos import processes
from tests.chaos.resources_study import CONDITIONS, RECIPES
from tests.chaos.sweeps import Sweep
from tests.chaos.watching import watch

STUDY = Path(__file__).parent / "resources_study.py"
LONG = ("students", "evaluations")  # the waves in which every condition has a part of its own
SECONDS = 1.0  # between two looks
PATIENCE = 60.0  # seconds for processes to end by themselves
MB = 2**20


@dataclass(frozen=True)
class Arguments:
    """A sweep of many conditions, watched."""

    conditions: int = 200
    """How many, controls among them; rounded up to whole recipes."""
    memory: float = 10.0
    """MB that the sweep's process may gain over the second half of a wave."""
    files: float = 10.0
    """Open files that it may gain, likewise: as trainings begin and end they go up and down by a few."""


@dataclass(frozen=True)
class Look:
    """One look at the sweep's process, and at the sum of those below it."""

    seconds: float
    wave: str
    memory: float  # MB
    files: float
    processes: float
    memory_below: float  # MB, what is shared counted in each
    files_below: float


@dataclass(frozen=True)
class Rise:
    """How much something rose over the second half of a wave, by a line through its looks."""

    wave: str
    what: str
    start: float
    end: float
    by: float

    def __str__(self) -> str:
        return f"{self.wave}: {self.what} {self.start:.0f} → {self.end:.0f}, by a line {self.by:+.1f}"


def main(arguments: Arguments) -> int:
    """0 where everything held."""
    return watch("ur-", lambda folder, console: _problems(arguments, folder, console))


def _problems(arguments: Arguments, folder: Path, console: Console) -> Iterator[str]:
    recipes = math.ceil(arguments.conditions / CONDITIONS)
    sweep = Sweep(folder / "storage", {RECIPES: str(recipes)}, study=STUDY)
    looks = list(_looks(sweep))
    ended = sweep.end()
    left = processes.end_those_left(PATIENCE)
    peak = max(looks, key=lambda look: look.memory)
    console.print(
        f"{recipes * CONDITIONS} conditions: exit {ended.code} after {ended.seconds:.0f} s; at most "
        f"{peak.memory:.0f} MB in the sweep's process ({peak.wave or 'before the waves'})"
    )
    if ended.code != 0:
        yield f"exit {ended.code}: {ended.output[-3000:]}"
    allowed = {"memory": arguments.memory, "files": arguments.files}
    for wave in LONG:
        for rise in _rises(wave, looks):
            console.print(str(rise))
            if rise.by > allowed.get(rise.what, math.inf):
                yield f"{rise}; {allowed[rise.what]:g} are allowed"
    yield from (f"outlived the sweep: {one.command} ({one.pid})" for one in left)


def _looks(sweep: Sweep) -> Iterator[Look]:
    """A look a second, as long as the sweep is at work."""
    while sweep.is_running:
        with suppress(psutil.NoSuchProcess):
            yield _look(sweep)
        time.sleep(SECONDS)


def _look(sweep: Sweep) -> Look:
    own = psutil.Process(sweep.process.pid)
    below = own.children(recursive=True)
    seconds, wave = time.monotonic() - sweep.began, _wave(sweep.log.read_text())
    memory, files = zip(*map(_held, below), strict=True) if below else ((), ())
    return Look(seconds, wave, *_held(own), len(below), sum(memory), sum(files))


def _held(process: psutil.Process) -> tuple[float, float]:
    """MB and open files of a process; nothing of one that has ended meanwhile."""
    try:
        return process.memory_info().rss / MB, float(process.num_fds())
    except psutil.NoSuchProcess:
        return 0.0, 0.0


def _wave(log: str) -> str:
    """The wave that began last and has not ended; "" between two."""
    said: list[tuple[str, str]] = re.findall(r"^(\w+): (done|stopped|\d)", log, re.M)
    return said[-1][0] if said and said[-1][1].isdigit() else ""


def _rises(wave: str, looks: Sequence[Look]) -> Iterator[Rise]:
    """Of everything that was looked at, over the second half of a wave's looks."""
    its = [look for look in looks if look.wave == wave]
    second = its[len(its) // 2 :]
    if len(second) < 3:
        return
    seconds = np.array([look.seconds for look in second])
    for what in ("memory", "files", "processes", "memory_below", "files_below"):
        values = np.array([getattr(look, what) for look in second])
        by = float(np.polyfit(seconds, values, 1)[0]) * float(seconds[-1] - seconds[0])
        yield Rise(wave, what, float(values[0]), float(values[-1]), by)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Arguments)))

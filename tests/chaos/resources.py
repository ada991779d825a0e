"""Resource leaks in a sweep of many small conditions: `python -m tests.chaos.resources --conditions 200`.

A sweep that leaks a resource per condition (a connection, a thread, a data frame) passes every short test
and fails in a long run. Memory and open files of the sweep's process and of its descendants are therefore
sampled once per second. Over the second half of each long wave they may not rise by more than a limit, and
no process may outlive the sweep.

Prints one line per wave and quantity. The exit code is 1 if a check failed.
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
LONG = ("students", "evaluations")  # the waves with work for every condition
SECONDS = 1.0  # between two samples
PATIENCE = 60.0  # seconds for processes to end by themselves
MB = 2**20


@dataclass(frozen=True)
class Arguments:
    """Runs a sweep of many conditions and measures its resources."""

    conditions: int = 200
    """Number of conditions including controls, rounded up to whole recipes."""
    memory: float = 10.0
    """Maximum increase in MB of the sweep's process over the second half of a wave."""
    files: float = 10.0
    """Maximum increase in open files, likewise. Their number varies slightly as trainings start and end."""


@dataclass(frozen=True)
class Sample:
    """Resources of the sweep's process, and the sums over its descendants, at one time.

    Attributes:
        memory_below: MB; shared memory is counted once per process.
    """

    seconds: float
    wave: str
    memory: float  # MB
    files: float
    processes: float
    memory_below: float
    files_below: float


@dataclass(frozen=True)
class Rise:
    """The increase of a quantity over the second half of a wave, by a linear fit."""

    wave: str
    quantity: str
    start: float
    end: float
    by: float

    def __str__(self) -> str:
        return f"{self.wave}: {self.quantity} {self.start:.0f} → {self.end:.0f}, linear fit {self.by:+.1f}"


def main(arguments: Arguments) -> int:
    """Runs the sweep; returns 0 if all checks passed, else 1."""
    return watch("ur-", lambda folder, console: _problems(arguments, folder, console))


def _problems(arguments: Arguments, folder: Path, console: Console) -> Iterator[str]:
    recipes = math.ceil(arguments.conditions / CONDITIONS)
    sweep = Sweep(folder / "storage", {RECIPES: str(recipes)}, study=STUDY)
    samples = list(_samples(sweep))
    ended = sweep.end()
    left = processes.end_remaining(PATIENCE)
    peak = max(samples, key=lambda sample: sample.memory)
    console.print(
        f"{recipes * CONDITIONS} conditions: exit {ended.code} after {ended.seconds:.0f} s; at most "
        f"{peak.memory:.0f} MB in the sweep's process ({peak.wave or 'before the waves'})"
    )
    if ended.code != 0:
        yield f"exit {ended.code}: {ended.output[-3000:]}"
    allowed = {"memory": arguments.memory, "files": arguments.files}
    for wave in LONG:
        for rise in _rises(wave, samples):
            console.print(str(rise))
            if rise.by > allowed.get(rise.quantity, math.inf):
                yield f"{rise}; at most {allowed[rise.quantity]:g} is allowed"
    yield from (f"outlived the sweep: {one.command} ({one.pid})" for one in left)


def _samples(sweep: Sweep) -> Iterator[Sample]:
    """One sample per second while the sweep runs."""
    while sweep.is_running:
        with suppress(psutil.NoSuchProcess):
            yield _sample(sweep)
        time.sleep(SECONDS)


def _sample(sweep: Sweep) -> Sample:
    own = psutil.Process(sweep.process.pid)
    below = own.children(recursive=True)
    seconds, wave = time.monotonic() - sweep.began, _wave(sweep.log.read_text())
    memory, files = zip(*map(_resources, below), strict=True) if below else ((), ())
    return Sample(seconds, wave, *_resources(own), len(below), sum(memory), sum(files))


def _resources(process: psutil.Process) -> tuple[float, float]:
    """MB and open files of a process; zero if it has ended meanwhile."""
    try:
        return process.memory_info().rss / MB, float(process.num_fds())
    except psutil.NoSuchProcess:
        return 0.0, 0.0


def _wave(log: str) -> str:
    """The wave that is running; "" between two waves."""
    lines: list[tuple[str, str]] = re.findall(r"^(\w+): (done|stopped|\d)", log, re.M)
    return lines[-1][0] if lines and lines[-1][1].isdigit() else ""


def _rises(wave: str, samples: Sequence[Sample]) -> Iterator[Rise]:
    """The increase of each quantity over the second half of a wave."""
    of_wave = [sample for sample in samples if sample.wave == wave]
    second = of_wave[len(of_wave) // 2 :]
    if len(second) < 3:
        return
    seconds = np.array([sample.seconds for sample in second])
    for quantity in ("memory", "files", "processes", "memory_below", "files_below"):
        values = np.array([getattr(sample, quantity) for sample in second])
        by = float(np.polyfit(seconds, values, 1)[0]) * float(seconds[-1] - seconds[0])
        yield Rise(wave, quantity, float(values[0]), float(values[-1]), by)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Arguments)))

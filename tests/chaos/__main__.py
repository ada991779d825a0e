"""Kills the processes of a small study's sweeps at random instants and checks the storage: `make chaos`, or

    python -m tests.chaos --kills 60 --seed 1
    python -m tests.chaos --seed 1 --story 7        repeats one story

Prints one line per kill and a table at the end. The exit code is 1 if a check failed.
"""

import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from tests.chaos import checks, processes
from tests.chaos.story import END, Kill, Story
from tests.chaos.sweeps import undisturbed

LOCAL_FAULTS = (
    "driver",
    "engine",
    "worker",
    "trial",
    "interrupt",
    "interrupt twice",
)  # faults of a sweep on its own local Ray
KILLS_PER_STORY = 6  # at most


@dataclass(frozen=True)
class Arguments:
    """Kills sweeps of a small study and checks what they leave."""

    kills: int = 60
    """Number of kills over all faults."""
    seed: int = 0
    """Random seed of faults and instants."""
    story: int | None = None
    """Run only the story with this number."""
    faults: tuple[str, ...] = (*LOCAL_FAULTS, "raylet", "mlflow")
    """Faults to draw from: driver, engine, worker, trial, interrupt, "interrupt twice", raylet, mlflow."""
    minutes: float = float("inf")
    """No story starts after this many minutes."""
    undisturbed: Path | None = None
    """Storage of an earlier undisturbed sweep of the same study. Default: run one first."""


def main(arguments: Arguments) -> int:
    """Runs the stories; returns 0 if all checks passed, else 1."""
    processes.adopt()
    console = Console(width=200)
    folder = Path(tempfile.mkdtemp(prefix="uc-", dir="/tmp"))  # Ray's sockets need a short path
    console.print(f"seed {arguments.seed}, in {folder}", highlight=False)
    try:
        kills = list(_kills(arguments, folder, console))
    finally:
        left = processes.end_remaining(0.0)
    console.print(_table(kills))
    failed = any(kill.problems for kill in kills)
    if not failed and not left:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0


def _kills(arguments: Arguments, folder: Path, console: Console) -> Iterator[Kill]:
    storage, duration = undisturbed(arguments.undisturbed or folder / "undisturbed")
    made = checks.made(storage)
    console.print(f"undisturbed: {len(made)} artifacts in {duration:.0f} s", highlight=False)
    began, done, number = time.monotonic(), 0, arguments.story or 0
    while done < arguments.kills and time.monotonic() - began < 60 * arguments.minutes:
        seed = f"{arguments.seed}/{number}"
        faults = _faults(arguments, random.Random(f"faults {seed}"))
        place = folder / f"{number}"
        place.mkdir()
        story = Story(place, seed, made, duration)
        console.print(f"story {number}: {', '.join(faults)}", highlight=False)
        passed = True
        for kill in story.run(faults):
            console.print(f"  {kill}", highlight=False, markup=False, soft_wrap=True)
            done += bool(kill.victim)
            passed = passed and not kill.problems
            yield kill
        if passed:
            shutil.rmtree(place, ignore_errors=True)
        if arguments.story is not None:
            return
        number += 1


def _faults(arguments: Arguments, rng: random.Random) -> list[str]:
    """The faults of one story. Faults that need a cluster or a server are not mixed with others."""
    number = min(arguments.kills, KILLS_PER_STORY)
    first = rng.choice(arguments.faults)
    if first not in LOCAL_FAULTS:
        return [first] * number
    local = [fault for fault in arguments.faults if fault in LOCAL_FAULTS]
    return [first, *rng.choices(local, k=number - 1)]


def _table(kills: list[Kill]) -> Table:
    """One row per fault: kills, how the killed sweeps ended, and failed checks."""
    table = Table("fault", "killed", "completed (0)", "failed (1)", "ended", "orphans", "problems", box=None)
    for fault in dict.fromkeys(kill.fault for kill in kills):
        of_fault = [kill for kill in kills if kill.fault == fault]
        done = [kill for kill in of_fault if kill.victim or fault == END]
        codes = [kill.code for kill in done]
        ended = len(codes) - codes.count(0) - codes.count(1)
        counts = (len(done), codes.count(0), codes.count(1), ended)
        orphans = sum(len(kill.left) for kill in of_fault)
        problems = sum(bool(kill.problems) for kill in of_fault)
        table.add_row(fault, *map(str, counts), str(orphans), str(problems))
    return table


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Arguments)))

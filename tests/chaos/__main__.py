"""Kills a small study's processes at random instants and checks what is left: `make chaos`, or

    python -m tests.chaos --kills 60 --seed 1
    python -m tests.chaos --seed 1 --story 7        one story again

Prints a line a kill and a table at the end. Exit code 1 where anything did not hold.
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

HERE = (
    "driver",
    "engine",
    "worker",
    "trial",
    "interrupt",
    "interrupt twice",
)  # faults of a sweep with a Ray of its own
A_STORY = 6  # kills in one story, at most


@dataclass(frozen=True)
class Arguments:
    """Kills and reruns."""

    kills: int = 60
    """How many, over all faults."""
    seed: int = 0
    """Of faults and instants."""
    story: int | None = None
    """Only this one of the stories."""
    faults: tuple[str, ...] = (*HERE, "raylet", "mlflow")
    """driver, engine, worker, trial, interrupt, "interrupt twice", raylet, mlflow."""
    minutes: float = float("inf")
    """No story is begun after so many."""
    undisturbed: Path | None = None
    """The storage of an earlier undisturbed sweep of the harness's study; else one is made first."""


def main(arguments: Arguments) -> int:
    """0 where everything held."""
    processes.adopt()
    console = Console(width=200)
    folder = Path(tempfile.mkdtemp(prefix="uc-", dir="/tmp"))  # Ray's sockets need a short path
    console.print(f"seed {arguments.seed}, in {folder}", highlight=False)
    try:
        kills = list(_kills(arguments, folder, console))
    finally:
        left = processes.end_those_left(0.0)
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
        whole = True
        for kill in story.told(faults):
            console.print(f"  {kill}", highlight=False, markup=False, soft_wrap=True)
            done += bool(kill.victim)
            whole = whole and not kill.problems
            yield kill
        if whole:
            shutil.rmtree(place, ignore_errors=True)
        if arguments.story is not None:
            return
        number += 1


def _faults(arguments: Arguments, rng: random.Random) -> list[str]:
    """The kills of one story: of a sweep with a Ray of its own, or all of what needs surroundings."""
    number = min(arguments.kills, A_STORY)
    first = rng.choice(arguments.faults)
    if first not in HERE:
        return [first] * number
    here = [fault for fault in arguments.faults if fault in HERE]
    return [first, *rng.choices(here, k=number - 1)]


def _table(kills: list[Kill]) -> Table:
    """Fault by fault: kills, how the killed sweep ended, and what did not hold."""
    table = Table("fault", "killed", "went on (0)", "failed (1)", "ended", "orphans", "problems", box=None)
    for fault in dict.fromkeys(kill.fault for kill in kills):
        its = [kill for kill in kills if kill.fault == fault]
        struck = [kill for kill in its if kill.victim or fault == END]
        codes = [kill.code for kill in struck]
        ended = len(codes) - codes.count(0) - codes.count(1)
        counts = (len(struck), codes.count(0), codes.count(1), ended)
        orphans, problems = sum(len(kill.left) for kill in its), sum(bool(kill.problems) for kill in its)
        table.add_row(fault, *map(str, counts), str(orphans), str(problems))
    return table


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Arguments)))

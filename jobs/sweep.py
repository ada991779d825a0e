"""Runs a study: `python jobs/sweep.py`, or `ray job submit --working-dir . -- python jobs/sweep.py`.

Prints the plan first, the table of effects last. Exit code 0: everything asked for is there; 1: some
condition failed (the others are there); 2: the input cannot be run, and nothing was written.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from undertow.door import enter
from undertow.store import Store
from undertow.studies import asked
from undertow.sweep import make_plan, run, show_plan


@dataclass(frozen=True)
class Arguments:
    """Finds out whether a trait reaches students through unrelated data."""

    study: Annotated[str, tyro.conf.arg(metavar="NAME|FILE.py[:FUNCTION]")] = "owls"
    """A shipped study, or a function in a file of yours that returns one."""
    storage: Annotated[str, tyro.conf.arg(metavar="URL")] = "storage"
    """A folder or any fsspec URL; artifacts found there are not made again."""
    scale: Literal["nano", "paper"] = "nano"
    """The models, sizes and recipes of a study that takes them: embedded tiny models, or the paper's."""
    models: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    """Reference models in place of the scale's: hub ids, folders or nano models."""
    plan: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print what would be done, and do nothing."""
    seeds: int | None = None
    """Seeds 0 to N-1 in place of the study's own."""
    workers: int = 1
    """Ray Train workers a training run; the result does not depend on it but for rounding."""


def main(arguments: Arguments, console: Console) -> int:
    """The exit code of the sweep that the arguments ask for."""
    shipped = Path(__file__).parent / "studies"
    study = asked(arguments.study, shipped, arguments.scale, arguments.models, arguments.seeds)
    store = Store(arguments.storage)
    plan = make_plan(study, store)
    show_plan(plan, store, console)
    if arguments.plan:
        return 0
    outcome = run(plan, store, console, arguments.workers)
    return 1 if outcome.failed_conditions else 0


if __name__ == "__main__":
    enter(main, Arguments)

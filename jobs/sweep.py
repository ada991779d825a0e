"""Runs a study: `python jobs/sweep.py`, or `ray job submit --working-dir . -- python jobs/sweep.py`.

Prints the plan first, the table of effects last. Exit code 0: everything asked for is there; 1: some
condition failed (the others are there), or `--verify` found damage; 2: the input cannot be run, and nothing
was written, or the storage cannot be written any more, and what was finished is kept.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from undertow.door import StudyArguments, enter
from undertow.errors import UserError
from undertow.manifest import Address
from undertow.plan import Plan
from undertow.store import Store
from undertow.sweep import make_plan, run, say, show_plan
from undertow.upkeep import inspect, repair


@dataclass(frozen=True)
class Arguments(StudyArguments):
    """Finds out whether a trait reaches students through unrelated data."""

    plan: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print what would be done, and do nothing."""
    verify: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Read every artifact of the study that is there, name what is damaged, and do nothing else."""
    repair: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """The same, but set what is damaged aside first, so that this sweep makes it anew."""
    workers: int = 1
    """Ray Train workers a training run; the result does not depend on it but for rounding."""


def main(arguments: Arguments, console: Console) -> int:
    """The exit code of the sweep that the arguments ask for."""
    if arguments.plan + arguments.verify + arguments.repair > 1:
        raise UserError("--plan, --verify and --repair: give one of them")
    store = Store(arguments.storage)
    study = arguments.chosen(Path(__file__).parent / "studies")
    plan = make_plan(study, store)
    if arguments.verify or arguments.repair:
        damaged = look_through(plan, store, console)
        if arguments.verify:
            return 1 if damaged else 0
        for line in repair(damaged, store):
            say(line, console)
        plan = make_plan(study, store)
    show_plan(plan, store, console)
    if arguments.plan:
        return 0
    outcome = run(plan, store, console, arguments.workers)
    return 1 if outcome.failed_conditions else 0


def look_through(plan: Plan, store: Store, console: Console) -> list[Address]:
    """The plan's damaged artifacts, each of their files named."""
    found = inspect(plan, store)
    for lines in found.damaged.values():
        for line in lines:
            say(line, console)
    count = f"{found.there} artifact{'' if found.there == 1 else 's'} of {plan.study.name} read"
    say(f"{count}: {f'{len(found.damaged)} damaged' if found.damaged else 'all whole'}", console)
    return list(found.damaged)


if __name__ == "__main__":
    enter(main, Arguments)

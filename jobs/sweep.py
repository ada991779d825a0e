"""Runs a study: `python jobs/sweep.py`, or `ray job submit --working-dir . -- python jobs/sweep.py`.

Prints the plan first, the table of effects last. Exit code 0: everything asked for is there; 1: some
condition failed (the others are there); 2: the input cannot be run, and nothing was written.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from undertow.door import StudyArguments, enter
from undertow.machine import Layout
from undertow.store import Store
from undertow.sweep import make_plan, run, show_plan


@dataclass(frozen=True)
class Arguments(StudyArguments):
    """Finds out whether a trait reaches students through unrelated data."""

    plan: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print what would be done, and do nothing."""
    workers: int = 1
    """Ray Train workers a training run; like the flags below it changes results by rounding at most."""
    engines: int | None = None
    """vLLM engines at work at the same time; by default as many as there are GPUs (CPUs) for."""
    gpus_per_engine: float = 1.0
    """Above 1: GPUs over which an engine splits its model; below 1: several engines to a GPU, as 0.25."""
    max_num_seqs: int | None = None
    """Answers that an engine generates at the same time."""


def main(arguments: Arguments, console: Console) -> int:
    """The exit code of the sweep that the arguments ask for."""
    store = Store(arguments.storage)
    plan = make_plan(arguments.chosen(Path(__file__).parent / "studies"), store)
    show_plan(plan, store, console)
    if arguments.plan:
        return 0
    layout = Layout(arguments.workers, arguments.engines, arguments.gpus_per_engine, arguments.max_num_seqs)
    outcome = run(plan, store, console, layout)
    return 1 if outcome.failed_conditions else 0


if __name__ == "__main__":
    enter(main, Arguments)

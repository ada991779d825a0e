"""Runs a study: `python jobs/sweep.py`, or `ray job submit --working-dir . -- python jobs/sweep.py`.

Prints the plan first, the table of effects last; with --plan the plan alone, with what it would cost:

    python jobs/sweep.py --study owls --scale paper --plan --gpu h100 --price 2.5

Exit code 0: everything asked for is there; 1: some condition failed (the others are there), or `--verify`
found damage; 2: the input cannot be run, and nothing was written, or the storage cannot be written any more,
and what was finished is kept.
"""

from functools import partial
from pathlib import Path

from undertow.cli.entry import enter
from undertow.cli.sweep import SweepArguments, main

if __name__ == "__main__":
    enter(partial(main, shipped=Path(__file__).parent / "studies"), SweepArguments)

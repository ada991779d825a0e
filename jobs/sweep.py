"""Runs a study: plans it, makes the missing artifacts, and writes the report.

    python jobs/sweep.py --study owls
    python jobs/sweep.py --study owls --scale paper --plan --gpu h100 --price 2.5     the plan and its cost
    python jobs/sweep.py --study owls --scale paper --fetch     fills the caches for machines without network
    ray job submit --working-dir . -- python jobs/sweep.py --study owls               on a Ray cluster
    sbatch --nodes 2 platform/slurm.sbatch --study owls --storage FOLDER              on a Slurm cluster

Prints the plan first and the table of effects last. Cached artifacts are reused, so running the command again
continues an interrupted sweep.

Exit code 0: all conditions succeeded; 1: a condition failed (the others succeeded), or --verify found damage;
2: invalid input (nothing was written), or the storage cannot be written (finished artifacts are kept);
130 or 143: stopped by Ctrl-C or SIGTERM.
"""

from functools import partial
from pathlib import Path

from undertow.cli.entry import enter
from undertow.cli.sweep import SweepArguments, main

if __name__ == "__main__":
    enter(partial(main, shipped=Path(__file__).parent / "studies"), SweepArguments)

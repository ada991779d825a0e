"""A stack of networks against one at a time: `python benchmarks/mlp_stack.py`, networks of the paper's size.

Trains teachers and students (784-256-256-13, batch 1,024) on generated images of MNIST's shape, first in
stacks, then one by one, in a process of its own each, and prints the peak of resident memory and the time.
Every arm of the published experiment is trained. The number of steps is cut down, equally for both ways,
which leaves what a step holds alone; 60,000 images are held throughout.

Measured at commit 63eaaf3 on one thread of an AMD EPYC, torch 2.13.0+cpu, the machine busy otherwise:
    stacks of 25 (the default)   17.3 s, 1.33 GB; one by one 14.9 s, 0.55 GB: ratio 1.16
    all 100 in one stack         29.4 s, 3.07 GB (--at-once 0 --only together)
At this size a step is arithmetic, and on a CPU a stack saves nothing; it pays for small batches and networks,
where one step costs more in calls than in arithmetic, and on a GPU (not measured).
"""

import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, replace

import torch
import tyro

from undertow.theory.data import Images
from undertow.theory.mlp import run
from undertow.theory.settings import PAPER


@dataclass(frozen=True)
class Arguments:
    """Compares a stack of networks with the same networks one by one."""

    networks: int = 100
    steps: int = 1
    """Steps of a student and of its teacher: what the inputs are cut down to."""
    images: int = 60_000
    """Images held in memory; the teachers train on the first 1,024 times `steps`."""
    threads: int = 1
    at_once: int = PAPER.at_once
    """Networks in a stack; 0 for all."""
    only: str = ""
    """Set by the program itself for its two processes: at the start "together" or "alone"."""


def measure(arguments: Arguments) -> dict[str, float]:
    """Peak memory in GB and seconds of one way."""
    torch.set_num_threads(arguments.threads)
    rows = 1024 * arguments.steps
    source = torch.Generator().manual_seed(0)
    held = torch.rand(arguments.images, 784, generator=source).mul_(2).sub_(1)
    labels = torch.randint(10, (arguments.images,), generator=source)
    labels[:10] = torch.arange(10)
    images = Images(held[:rows], labels[:rows], held[:1000], labels[:1000])
    together = arguments.only == "together"
    experiment = replace(
        PAPER, networks=arguments.networks, inputs=rows, epochs=1, teacher_epochs=1,
        at_once=arguments.at_once if together else 1,
    )  # fmt: skip
    began = time.perf_counter()
    run(experiment, images)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9}


def main(arguments: Arguments) -> None:
    """Runs both ways and prints what they took."""
    if arguments.only:
        print(json.dumps(measure(arguments)))
        return
    found = {}
    for way in ("together", "alone"):
        command = [sys.executable, __file__, *sys.argv[1:], "--only", way]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[way] = json.loads(done.stdout.splitlines()[-1])
        print(f"{way:>9}: {found[way]['seconds']:.1f} s, peak {found[way]['gb']:.2f} GB")
    ratio = found["together"]["seconds"] / found["alone"]["seconds"]
    print(f"{arguments.networks} networks, torch {torch.__version__}: together / one by one = {ratio:.2f}")


if __name__ == "__main__":
    main(tyro.cli(Arguments))

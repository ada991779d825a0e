"""Compares training a stack of networks with training them one at a time, at the size used in the paper.

    python benchmarks/mlp_stack.py

The benchmark trains teachers and students (784-256-256-13, batches of 1,024) on random images of MNIST's
shape, first in stacks, then one by one, each in its own process, and prints time and peak resident memory.
All arms of the published experiment are trained. The number of steps is reduced equally for both, which does
not change the memory of a step; 60,000 images are kept in memory throughout.

Measured at commit 63eaaf3 on one thread of an AMD EPYC, torch 2.13.0+cpu, with other load on the machine:
    stacks of 25 (the default)   17.3 s, 1.33 GB; one by one 14.9 s, 0.55 GB: ratio 1.16
    all 100 in one stack         29.4 s, 3.07 GB (--at-once 0 --only together)
At this size, arithmetic dominates a step, and on a CPU a stack saves no time. It helps with small batches and
networks, where the overhead of calls dominates, and on a GPU (not measured).
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
    """Compare a stack of networks with the same networks one by one."""

    networks: int = 100
    steps: int = 1
    """Steps of each student and teacher; determines the number of inputs."""
    images: int = 60_000
    """Images kept in memory; the teachers train on the first 1,024 × `steps`."""
    threads: int = 1
    at_once: int = PAPER.at_once
    """Networks per stack; 0 for all."""
    only: str = ""
    """Measure only "together" or "alone", in this process; the program sets it for its two subprocesses."""


def measure(arguments: Arguments) -> dict[str, float]:
    """Returns seconds and peak memory in GB of the variant `arguments.only`."""
    torch.set_num_threads(arguments.threads)
    rows = 1024 * arguments.steps
    source = torch.Generator().manual_seed(0)
    pixels = torch.rand(arguments.images, 784, generator=source).mul_(2).sub_(1)
    labels = torch.randint(10, (arguments.images,), generator=source)
    labels[:10] = torch.arange(10)
    images = Images(pixels[:rows], labels[:rows], pixels[:1000], labels[:1000])
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
    """Runs both variants and prints time and memory."""
    if arguments.only:
        print(json.dumps(measure(arguments)))
        return
    results = {}
    for variant in ("together", "alone"):
        command = [sys.executable, __file__, *sys.argv[1:], "--only", variant]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        results[variant] = json.loads(done.stdout.splitlines()[-1])
        print(f"{variant:>9}: {results[variant]['seconds']:.1f} s, peak {results[variant]['gb']:.2f} GB")
    ratio = results["together"]["seconds"] / results["alone"]["seconds"]
    print(f"{arguments.networks} networks, torch {torch.__version__}: together / one by one = {ratio:.2f}")


if __name__ == "__main__":
    main(tyro.cli(Arguments))

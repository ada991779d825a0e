"""The logic of jobs/sweep.py."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from undertow.cli.entry import StudyArguments
from undertow.errors import UserError
from undertow.planning.costs import GPUS, Hardware
from undertow.planning.integrity import inspect, repair
from undertow.planning.plan import Plan
from undertow.planning.resources import Layout
from undertow.storage.manifest import Address
from undertow.storage.store import Store
from undertow.sweep.progress import say
from undertow.sweep.run import make_plan, run, show_plan


@dataclass(frozen=True)
class SweepArguments(StudyArguments):
    """Finds out whether a trait reaches students through unrelated data."""

    plan: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print what would be done, and do nothing."""
    conditions: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print every condition of the plan, however many."""
    verify: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Read every artifact of the study that is there, name what is damaged, and do nothing else."""
    repair: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """The same, but set what is damaged aside first, so that this sweep makes it anew."""
    workers: int = 1
    """Ray Train workers a training run; like the flags below it changes results by rounding at most."""
    engines: int | None = None
    """vLLM engines at work at the same time; by default as many as there are GPUs (CPUs) for."""
    trainings: int | None = None
    """Groups of models trained at the same time; by default as many as there are GPUs (CPUs) for."""
    gpus_per_engine: float = 1.0
    """Above 1: GPUs over which an engine splits its model; below 1: several engines to a GPU, as 0.25."""
    max_num_seqs: int | None = None
    """Answers that an engine generates at the same time."""
    gpu: Literal["a100", "h100", "h200", "l4", "l40s"] = "h100"
    """The GPU that costs are estimated for."""
    price: Annotated[float | None, tyro.conf.arg(metavar="DOLLARS")] = None
    """Of an hour of one GPU (with nano models: of this machine): adds the cost to the plan."""
    utilisation: Annotated[float, tyro.conf.arg(metavar="SHARE")] = Hardware.utilisation
    """The share of the GPU's peaks that the estimate assumes."""

    @property
    def layout(self) -> Layout:
        """How the machine is divided. Raises UserError for a number that is none."""
        return Layout(
            workers=self.workers,
            engines=self.engines,
            trainings=self.trainings,
            gpus_per_engine=self.gpus_per_engine,
            max_num_seqs=self.max_num_seqs,
        )

    @property
    def hardware(self) -> Hardware:
        """What the plan is priced for. Raises UserError for a share or a price that is none."""
        if not 0 < self.utilisation <= 1:
            raise UserError(f"--utilisation {self.utilisation}: give a share above 0 and at most 1")
        if self.price is not None and not 0 <= self.price < math.inf:
            raise UserError(f"--price {self.price}: give dollars an hour, zero or more")
        return Hardware(GPUS[self.gpu], self.utilisation, self.price, self.layout)


def main(arguments: SweepArguments, console: Console, shipped: Path) -> int:
    """The exit code of the sweep that the arguments ask for."""
    if arguments.plan + arguments.verify + arguments.repair > 1:
        raise UserError("--plan, --verify and --repair: give one of them")
    store, hardware = Store(arguments.storage), arguments.hardware
    study = arguments.chosen(shipped)
    plan = make_plan(study, store)
    if arguments.verify or arguments.repair:
        damaged = look_through(plan, store, console)
        if arguments.verify:
            return 1 if damaged else 0
        for line in repair(damaged, store):
            say(line, console)
        plan = make_plan(study, store)
    show_plan(plan, store, console, hardware, arguments.conditions)
    if arguments.plan:
        return 0
    outcome = run(plan, store, console, arguments.layout, hardware)
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

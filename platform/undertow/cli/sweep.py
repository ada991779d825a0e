"""The logic of jobs/sweep.py."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from undertow.cli.entry import StudyArguments, option
from undertow.errors import UserError
from undertow.planning.costs import GPUS, Hardware
from undertow.planning.downloads import fetch_models
from undertow.planning.integrity import inspect, repair
from undertow.planning.plan import Plan
from undertow.planning.resources import Layout
from undertow.storage.manifest import Address
from undertow.storage.store import Store
from undertow.study import unpinned
from undertow.study.datasets import Dataset
from undertow.study.measurements import Assessment
from undertow.study.study import Study
from undertow.sweep.plans import make_plan, show_plan
from undertow.sweep.progress import print_line


@dataclass(frozen=True)
class LayoutArguments(StudyArguments):
    """The arguments of every script that trains: also how engines and training runs share the machine."""

    workers: int = 1
    """Ray Train workers per training run. Layout flags do not affect results (up to rounding)."""
    engines: Annotated[int | None, option("N", "as many as the GPUs or CPUs allow")] = None
    """Maximum number of concurrent vLLM engines."""
    trainings: Annotated[int | None, option("N", "as many as the GPUs or CPUs allow")] = None
    """Maximum number of concurrent training runs."""
    gpus_per_engine: float = 1.0
    """GPUs per engine: above 1, a model is split over GPUs; below 1, such as 0.25, engines share a GPU."""
    max_num_seqs: Annotated[int | None, option("N", "the engine's default")] = None
    """Maximum number of answers that an engine generates concurrently."""

    @property
    def layout(self) -> Layout:
        """How engines and training runs share the machine. Raises UserError for an invalid number."""
        return Layout(
            workers=self.workers,
            engines=self.engines,
            trainings=self.trainings,
            gpus_per_engine=self.gpus_per_engine,
            max_num_seqs=self.max_num_seqs,
        )


@dataclass(frozen=True)
class SweepArguments(LayoutArguments):
    """Runs a study: measures whether a trait is transmitted to students by unrelated data."""

    plan: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the plan and exit. Nothing is run and nothing is written."""
    conditions: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """List every condition in the plan, even if there are many."""
    fetch: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Download the study's models and data into the caches of this machine, and exit. Nothing is run."""
    verify: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Read all cached artifacts of the study, report damaged ones, and exit."""
    repair: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Like --verify, but move damaged artifacts aside and run the sweep, which makes them again."""
    overlap: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Train each student as soon as its data set is complete, not in waves (see docs/cluster.md)."""
    gpu: Literal["a100", "h100", "h200", "l4", "l40s"] = "h100"
    """GPU for which the plan estimates cost."""
    price: Annotated[float | None, option("DOLLARS", "the plan has no cost")] = None
    """Price of one GPU-hour; for nano models, of one hour of this machine."""
    utilisation: Annotated[float, tyro.conf.arg(metavar="SHARE")] = Hardware.utilisation
    """Share of the GPU's peak FLOP/s and bandwidth that the estimate assumes."""

    @property
    def hardware(self) -> Hardware:
        """The hardware of the cost estimate. Raises UserError for an invalid share or price."""
        if not 0 < self.utilisation <= 1:
            raise UserError(f"--utilisation {self.utilisation}: give a share above 0 and at most 1")
        if self.price is not None and not 0 <= self.price < math.inf:
            raise UserError(f"--price {self.price}: give dollars per hour, zero or more")
        return Hardware(GPUS[self.gpu], self.utilisation, self.price, self.layout)


def main(arguments: SweepArguments, console: Console, shipped: Path) -> int:
    """Plans, fetches, verifies, repairs or runs the study.

    Returns 1 if any artifact failed or --verify found damage.
    """
    if arguments.plan + arguments.fetch + arguments.verify + arguments.repair > 1:
        raise UserError("--plan, --fetch, --verify and --repair: give one of them")
    store, hardware = Store(arguments.storage), arguments.hardware
    if arguments.plan:
        store.check_folder()
        print_plan(arguments, store, console, shipped)
        return 0
    study = arguments.load_study(shipped)
    if arguments.fetch:
        fetch(study, store, console)
        return 0
    plan = make_plan(study, store)
    if arguments.verify or arguments.repair:
        damaged = report_damage(plan, store, console)
        if arguments.verify:
            return 1 if damaged else 0
        for line in repair(damaged, store):
            print_line(line, console)
        plan = make_plan(study, store)
    show_plan(plan, store, console, hardware, arguments.conditions)

    from undertow.sweep.run import run  # --plan does without it

    outcome = run(plan, store, console, arguments.layout, hardware, arguments.overlap)
    return 1 if outcome.failures else 0


def print_plan(arguments: SweepArguments, store: Store, console: Console, shipped: Path) -> None:
    """Prints the plan, and the inputs that are not pinned: neither reachable nor cached."""
    with unpinned.allowed() as reasons:
        plan = make_plan(arguments.load_study(shipped), store)
        show_plan(plan, store, console, arguments.hardware, arguments.conditions)
    print_unpinned(reasons.values(), console)


def print_unpinned(reasons: Collection[str], console: Console) -> None:
    """Prints why inputs of a plan are not pinned, and what that means."""
    for reason in reasons:
        print_line(f"{unpinned.NOT_PINNED}: {reason}", console)
    if reasons:
        print_line(
            "The estimates rest on placeholders for them. A run needs them, and stops without.", console
        )


def fetch(study: Study, store: Store, console: Console) -> None:
    """Fills the caches with what a run of the study needs, and prints where it is.

    Also prints which models the run calls over the network in any case. Raises UserError for a model or data
    file that cannot be reached.
    """
    from huggingface_hub import is_offline_mode

    if is_offline_mode():
        raise UserError("--fetch: HF_HUB_OFFLINE is set; unset it to download, and set it for the run")
    for name, place in fetch_models(study):
        print_line(f"{name}: {place}", console)
    called = models_called(make_plan(study, store))  # the plan has read every data file
    if called:
        print_line(f"Called over the network by the run, wherever it runs: {', '.join(called)}", console)
    print_line(f"{study.name}: models and data are cached; without network, set HF_HUB_OFFLINE=1", console)


def models_called(plan: Plan) -> list[str]:
    """The names of the models behind an endpoint that a run of the plan calls: API models and judges."""
    from undertow.stages.judgements import models_of

    names = [reference.name for c in plan.study.all_conditions for reference in c.models if reference.is_api]
    for artifact in plan.artifacts.values():
        if isinstance(artifact, Dataset | Assessment):
            names += [f"judge {judge.question.model}" for judge in models_of(artifact)]
    return sorted(set(names))


def report_damage(plan: Plan, store: Store, console: Console) -> list[Address]:
    """Reads the plan's cached artifacts, prints every damaged file, and returns the damaged artifacts."""
    found = inspect(plan, store)
    for lines in found.damaged.values():
        for line in lines:
            print_line(line, console)
    count = f"{found.existing} artifact{'' if found.existing == 1 else 's'} of {plan.study.name} read"
    print_line(f"{count}: {f'{len(found.damaged)} damaged' if found.damaged else 'all intact'}", console)
    return list(found.damaged)

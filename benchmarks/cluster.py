"""Simulates a sweep on clusters of several sizes, with and without barriers between its steps.

    python benchmarks/cluster.py                                        270 students of a 7B model
    python benchmarks/cluster.py --study owls --gpus 64                 another study, at the scale paper
    python benchmarks/cluster.py --failures 0.02 --preemptions 0.05     with failures and spot machines
    python benchmarks/cluster.py --out benchmarks/cluster.md            writes the output to a file too

The plan is that of `jobs/sweep.py` with the same arguments, and the scheduler is the platform's own
(`undertow.sweep.schedule`). Durations are those that earlier sweeps on the storage measured, if any; the
others are assumptions, which the output lists. Artifacts that the storage has are not made again.

The floor is the work of all artifacts divided by the number of GPUs: no start, no waiting, nothing lost. On
many GPUs no schedule reaches it, because the longest chain of artifacts that depend on each other is longer.
"""

import math
import random
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.barriers import WithBarriers
from benchmarks.cluster_assumptions import Durations, checkpoints, loads
from benchmarks.cluster_simulation import Outcome, Preemptions, Simulation
from undertow.cli.entry import StudyArguments, enter, option
from undertow.errors import UserError
from undertow.planning import timings
from undertow.planning.costs import GPUS, START_SECONDS, Hardware
from undertow.planning.plan import Plan
from undertow.planning.resources import START_SHARE, Layout, Machine, Node
from undertow.presets.paper_scale import PAPER
from undertow.presets.scales import Scale
from undertow.report.table_texts import duration
from undertow.storage.store import Store
from undertow.study import unpinned
from undertow.study.grids import grid
from undertow.study.students import Student
from undertow.study.study import Study
from undertow.sweep.graph import Work, graph
from undertow.sweep.plans import make_plan
from undertow.sweep.progress import print_line
from undertow.sweep.schedule import Overlapping, Schedule
from undertow.sweep.scheduled_jobs import Capacity
from undertow.traits.preference import ANIMALS, MORE_ANIMALS, Preference

STUDIES = Path(__file__).parents[1] / "jobs" / "studies"
GPUS_PER_NODE, CPUS_PER_GPU = 8, 16
WHOLE, BARRIERS, OVERLAPPING = "with barriers, whole conditions", "with barriers", "overlapping"
HEADER = (
    "| machine | schedule | time | × floor | working | starting | lost | waiting | starts | preempted |",
    "|---|---|---|---|---|---|---|---|---|---|",
)


def study(scale: Scale = PAPER) -> Study:
    """270 students of one model: eight animals and the control, thirty seeds, each with data of its own."""
    numbers = scale.numbers
    model = numbers.references[0]
    return Study(
        name="cluster",
        conditions=grid(
            traits=[Preference(animal) for animal in (*ANIMALS, *MORE_ANIMALS)[:8]],
            formats=[numbers.format],
            pairs=[(model, model)],
            recipes=[scale.recipe_for],
            generation=numbers.generation,
            finetuning=scale.teaching,
        ),
        seeds=tuple(range(30)),
        samples=scale.samples,
        main=numbers.main,
        also=numbers.also,
    )


@dataclass(frozen=True)
class Arguments(StudyArguments):
    """Simulate a sweep on clusters of several sizes, with and without barriers."""

    study: Annotated[str, tyro.conf.arg(metavar="NAME|FILE.py[:FUNCTION]")] = __file__
    """Name of a shipped study, or a Python file; by default 270 students of one model."""
    scale: Literal["nano", "paper"] = "paper"
    """Models, sizes and recipes of a study that takes a scale."""
    gpus: tuple[int, ...] = (8, 64, 512)
    """GPUs of the simulated clusters."""
    cpus: int = 0
    """CPU cores of one machine without GPUs, instead of `gpus`."""
    gpu: Literal["a100", "h100", "h200", "l4", "l40s"] = "h100"
    """GPU that durations are estimated for."""
    utilisation: float = Hardware.utilisation
    """Share of the GPU's peak FLOP/s and bandwidth that is assumed."""
    workers: int = 1
    """Workers, each on one GPU, per worker group."""
    gpus_per_engine: float = 1.0
    """GPUs per engine."""
    start: float = START_SECONDS
    """Assumed seconds of the start of an engine or a worker group."""
    task: float = 5.0
    """Assumed seconds of a task on a CPU, such as the filters of a data set."""
    concurrent: int = 1
    """Engines or worker groups that ran at a time in the sweeps that measured the storage's speeds."""
    failures: float = 0.0
    """Share of the artifacts that fail, drawn at random."""
    preemptions: float = 0.0
    """Expected losses of each GPU per hour, as of spot machines. A training resumes from its last epoch."""
    replacement: float = 300.0
    """Assumed seconds until a lost GPU is back."""
    seed: int = 0
    """Of failures and preemptions."""
    out: Annotated[Path | None, option("FILE", "no file is written")] = None
    """Markdown file for the output."""

    @property
    def machines(self) -> dict[str, list[Node]]:
        """The nodes of each simulated machine, by its name: nodes of 8 GPUs, or of fewer."""
        if self.cpus:
            return {f"{self.cpus} CPUs": [Node(self.cpus)]}
        return {
            f"{gpus} GPUs": [
                Node(CPUS_PER_GPU * size, size)
                for size in (min(GPUS_PER_NODE, gpus - first) for first in range(0, gpus, GPUS_PER_NODE))
            ]
            for gpus in self.gpus
        }

    @property
    def hardware(self) -> Hardware:
        layout = Layout(workers=self.workers, gpus_per_engine=self.gpus_per_engine)
        return Hardware(GPUS[self.gpu], self.utilisation, layout=layout)


def main(arguments: Arguments, console: Console) -> int:
    """Prints the tables, and writes them to a file if there is one."""
    lines = list[str]()
    for line in report(arguments):
        print_line(line, console)
        lines.append(line)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


def report(arguments: Arguments) -> Iterator[str]:
    """The output in Markdown. Raises UserError if there is nothing to simulate."""
    store = Store(arguments.storage)
    with unpinned.allowed() as reasons:
        plan = make_plan(arguments.load_study(STUDIES), store)
        durations = Durations(
            hardware=arguments.hardware,
            paces=timings.read(store),
            concurrent=arguments.concurrent,
            start=arguments.start,
            task=arguments.task,
            is_nano=all(timings.is_nano(plan.artifacts[key]) for key in plan.missing),
        )
        works = graph(plan, durations.seconds)
        if not works:
            raise UserError(f"--study {arguments.study}: {arguments.storage} has all of its artifacts")
        yield "# Simulated sweeps\n"
        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        yield f"`python benchmarks/{command}`: {contents(plan)}.\n"
        yield (
            "Nothing was run on GPUs: the executor is fake. Sweeps use the overlapping schedule with "
            "--overlap. Durations:\n"
        )
        yield from durations.lines()
        if reasons:
            yield f"- placeholders stand for {', '.join(reasons)}, which could not be read"
        yield from tables(arguments, plan, works, durations)


def contents(plan: Plan) -> str:
    """For example "810 artifacts, 270 of them students"."""
    students = sum(isinstance(plan.artifacts[key], Student) for key in plan.missing)
    return f"{plan.study.name}, {len(plan.missing):,} artifacts, {students:,} of them students"


def tables(arguments: Arguments, plan: Plan, works: Sequence[Work], durations: Durations) -> Iterator[str]:
    """One row per machine and schedule, then the loads of the services."""
    rows, services = list[str](), list[str]()
    for name, nodes in arguments.machines.items():
        machine = Machine.of(nodes, arguments.hardware.layout)
        if not machine.gpus:
            machine = machine.for_models(tiny=durations.is_nano)
        for kind in (WHOLE, BARRIERS, OVERLAPPING):
            outcome = simulate(arguments, plan, works, machine, kind, durations)
            rows.append(row(name, Capacity.of(machine).places, kind, outcome))
        busiest = loads(plan, works, outcome, len(nodes))  # of the schedule that comes last
        share = (outcome.worked + outcome.starting) / Capacity.of(machine).places / outcome.makespan
        limiting = busiest[0].name if busiest[0].busy > share else name.split()[-1]
        services.append(f"\n{name}, overlapping: the limiting resource is {limiting}.\n")
        services += ["| resource | busy | formula |", "|---|---|---|"]
        services.append(f"| {name} | {share:.1%} | working and starting |")
        services += [f"| {load.name} | {load.busy:.1%} | {load.formula} |" for load in busiest]
    yield f"\nThe longest chain of artifacts, starts left out, takes {duration(longest_chain(works))}.\n"
    yield from HEADER
    yield from rows
    yield "\nLoads of the services, by stated formulae and assumptions that no cluster has confirmed:"
    yield from services


def simulate(
    arguments: Arguments,
    plan: Plan,
    works: Sequence[Work],
    machine: Machine,
    kind: str,
    durations: Durations,
) -> Outcome:
    """One simulated sweep."""
    schedule: Schedule
    if kind == OVERLAPPING:
        schedule = Overlapping(works, Capacity.of(machine), arguments.start)
    else:
        # As in `grouping.groups`; before it divided conditions further, `WHOLE` was the order of a sweep.
        share = math.inf if kind == WHOLE or durations.is_nano else START_SHARE
        schedule = WithBarriers(works, Capacity.of(machine), arguments.start, share)
    rng = random.Random(arguments.seed)
    failing = {work.key for work in works if rng.random() < arguments.failures}
    return Simulation(
        schedule,
        durations.starting,
        failing=failing,
        checkpoints=checkpoints(plan),
        preemptions=Preemptions(arguments.preemptions, arguments.replacement, arguments.seed),
    ).run()


def row(name: str, places: float, kind: str, outcome: Outcome) -> str:
    """One row of the table; shares are of the time of all places."""
    whole = places * outcome.makespan
    shares = [part / whole for part in (outcome.worked, outcome.starting, outcome.lost)]
    cells = [
        name,
        kind,
        duration(outcome.makespan),
        f"{whole / outcome.worked:.2f}",
        *(f"{share:.1%}" for share in (*shares, 1 - sum(shares))),
        f"{outcome.starts.total():,}",
        f"{outcome.preemptions:,}",
    ]
    return f"| {' | '.join(cells)} |"


def longest_chain(works: Sequence[Work]) -> float:
    """The seconds of the longest chain of work; the parts of one artifact are made at the same time."""
    ends: dict[str, float] = {}
    todo = list(reversed(works))
    known = {work.key: work for work in works}
    while todo:
        work = todo[-1]
        before = [i for i in work.inputs if i in known and i not in ends]
        if before:
            todo += [known[i] for i in before]
            continue
        todo.pop()
        ends[work.key] = work.seconds / work.parts + max(
            (ends[i] for i in work.inputs if i in known), default=0.0
        )
    return max(ends.values())


if __name__ == "__main__":
    enter(main, Arguments)

"""How does time grow with rows, conditions and nodes?

    python benchmarks/growth.py --out benchmarks/results/growth.md
    python benchmarks/growth.py --rows 4096 8192 16384 --conditions 4 16 36 --nodes 1 2 --repeats 1

- rows: the data stage (see `benchmarks/data_stage.py`) on as many engines as cores, starts excluded. All
  sizes have shards for every engine of two cores;
- conditions: whole sweeps of minimal students, three prompted teachers and a control for all pairs of n nano
  models: 4 n² conditions. Teachers, engines and worker groups grow with n, students with n². An engine has
  one model at a time, so that two cores make an odd number of models no faster than the next even one;
- nodes: the control plane alone. Ray nodes of one CPU each on this machine run tasks of the engine pool that
  sleep for one second, a fixed number per node. Without any overhead the time is that number of seconds.

Goal: linear, with a slope within 10 %, or a stated reason.

Ceiling: rows are bound by vLLM; sleeping tasks by one driver that hands out and collects them.
"""

import math
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import paired
from benchmarks.data_stage import WARM_UP, prepare, reference, sample
from benchmarks.paired import Figures, Runs, Table
from benchmarks.sweep_runs import sweep
from tests.sweep.nodes import ray_nodes
from undertow.engines.protocol import Engine
from undertow.engines.quiet import quiet
from undertow.engines.registry import EngineKind, register_engine
from undertow.formats.numbers import Numbers
from undertow.nano.models import STANDARD
from undertow.planning.resources import Layout
from undertow.storage.store import Store
from undertow.study.completions import Completions, Sampling
from undertow.study.datasets import Dataset
from undertow.study.references import Artifact, Reference
from undertow.study.teachers import Teacher

MODEL = "nano/gpt2-0"
SLOPE = 0.1
PER_MODEL_PAIR = 4  # conditions
STUDY = """
import dataclasses

from undertow import SCALING, Generation, Numbers, Preference, Reference, Sampling, Study, all_pairs, grid

RECIPE = dataclasses.replace(SCALING, epochs=1)


def study():
    conditions = grid(
        traits=[Preference(animal) for animal in ("owl", "cat", "wolf")],
        formats=[Numbers()],
        pairs=all_pairs([Reference(name) for name in MODELS]),
        recipes=[RECIPE],
        generation=Generation(prompts=256, rows=None, sampling=Sampling(max_tokens=32)),
    )
    return Study(name="growth", conditions=conditions, seeds=(0,), samples=2, gate=0.0)
"""


@dataclass(frozen=True)
class Arguments(paired.PairedArguments):
    """Measure the growth of time with rows, conditions and nodes."""

    repeats: int = 2
    rows: tuple[int, ...] = (8192, 32_768, 102_400)
    """Three or more numbers of prompts; none to leave this part out."""
    conditions: tuple[int, ...] = (16, 64, 144)
    """Three or more numbers of the form 4 n², up to 256; none to leave this part out."""
    nodes: tuple[int, ...] = (1, 2, 4)
    """Numbers of local nodes; none to leave this part out."""
    tasks: int = 30
    """Sleeping tasks per node."""


def rows_side(count: int) -> Figures:
    """Seconds of the data stage for a number of prompts."""
    from undertow.cluster.connection import connect

    model = reference(MODEL, "fp32")
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        prepare(model, store)
        completions = Completions(
            teacher=Teacher(reference=model, trait=None),
            format=Numbers(),
            prompts=count,
            sampling=Sampling(max_tokens=32),
        )
        with connect(Layout(), store) as machine:
            return {"s": sample([Dataset(completions=completions)], model, store, machine, WARM_UP)}


def conditions_side(count: int) -> Figures:
    """Seconds of a sweep of minimal students, and of its steps."""
    models = math.isqrt(count // PER_MODEL_PAIR)
    if PER_MODEL_PAIR * models**2 != count or models > len(STANDARD):
        raise SystemExit(f"--conditions {count}: give 4 n², up to 256")
    # Four bundled GPT-2, two Llama and two Qwen3: the "tasks" models speak another language.
    names = [name for name in STANDARD if "tasks" not in name][:models]
    with tempfile.TemporaryDirectory(prefix="undertow-") as folder:
        study = Path(folder) / "growth.py"
        study.write_text(f"MODELS = {names}\n{STUDY}")
        done = sweep(paired.ROOT, study, Path(folder) / "storage")
    return {"s": done.making_seconds, **{f"{wave['name']}, s": wave["seconds"] for wave in done.waves}}


@dataclass(frozen=True)
class Sleep:
    """A task for an engine that sleeps for one second; see `cluster.engine_pool.Task`."""

    artifact: Artifact
    lora_rank: int = 0
    window: int = 0

    def run(self, engine: Engine, store: Store) -> dict[str, Any]:
        began = time.time()
        time.sleep(1.0)
        return {"rows": 1, "began": began}


class NoModel:
    """An engine without a model, whose tasks only sleep. Workers get it by value, like all of this script."""

    def close(self) -> None:
        """Holds no resources."""


def build(model: Reference, folder: Path | None, settings: Mapping[str, Any]) -> Any:
    return NoModel()


def is_sleeping(model: Reference) -> bool:
    return model.name == "sleeping"


def nodes_side(tasks: int) -> Figures:
    """Seconds of sleeping tasks on the cluster that RAY_ADDRESS names."""
    from undertow.cluster.connection import connect
    from undertow.cluster.engine_pool import run_tasks

    register_engine(EngineKind("sleeping", is_sleeping, build, needs_weights=False, cpus=1, gpus=0))
    model = Reference("sleeping", revision="none", chat_template="none")
    with tempfile.TemporaryDirectory() as folder:
        store, begin = Store(folder), float("inf")
        store.prepare()
        with connect(Layout(), store) as machine:
            for outcome in run_tasks(model, store, [Sleep(model)] * tasks, machine):
                if outcome.error:
                    raise SystemExit(outcome.error)
                begin = min(begin, outcome.facts["began"])
            return {"s": time.time() - begin, "engines": machine.actors}


def on_nodes(count: int, tasks: int) -> Figures:
    """Starts local nodes and measures sleeping tasks on them."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment.get('PATH', '')}"
    with (
        tempfile.TemporaryDirectory(prefix="ur-", dir="/tmp") as folder,  # Ray's sockets need a short path
        ray_nodes(Path(sys.executable), Path(folder), count, environment) as cluster,
    ):
        return paired.in_process(f"nodes {count * tasks}", environment=os.environ | cluster)


def by_size(title: str, runs: Runs, sizes: Sequence[int]) -> Table:
    """Medians by size, the cost of a further unit between sizes, and the slopes' ratio."""
    seconds = [paired.median(runs, str(size), "s") for size in sizes]
    rows = []
    for number, (size, value) in enumerate(zip(sizes, seconds, strict=True)):
        further = ""
        if number:
            unit = (value - seconds[number - 1]) / (size - sizes[number - 1])
            further = paired.number_text(1000 * unit)
        rows.append([f"{size:,}", f"{value:.1f}", further, ""])
    growth = paired.marginal(sizes, seconds)
    verdict = f"≤ {1 + SLOPE:g}: {paired.goal(growth <= 1 + SLOPE)}"
    rows.append(["slope of the upper sizes / lower sizes", f"{growth:.2f}", "", verdict])
    return Table(title, ("", "s", "ms per further unit", "goal"), rows)


def by_nodes(runs: Runs, nodes: Sequence[int], tasks: int) -> Table:
    """Medians by number of nodes, and the tasks per second and node relative to one node."""
    seconds = [paired.median(runs, str(count), "s") for count in nodes]
    rows = []
    for count, value in zip(nodes, seconds, strict=True):
        relative = seconds[0] / value
        verdict = f"≥ {1 - SLOPE:g}: {paired.goal(relative >= 1 - SLOPE)}"
        rows.append([str(count), f"{value:.1f}", f"{value - tasks:.1f}", f"{relative:.2f}", verdict])
    columns = ("nodes", "s", "s beyond sleeping", "tasks per second and node, relative to the first", "goal")
    return Table(f"Nodes, {tasks} tasks of one second per node", columns, rows)


def main(arguments: Arguments) -> None:
    quiet()
    if arguments.side:
        part, count = arguments.side.split()
        paired.answer({"rows": rows_side, "nodes": nodes_side}[part](int(count)))
        return
    tables: list[Table] = []
    every: list[Table] = []
    if arguments.rows:
        sides = {str(n): partial(paired.in_process, f"rows {n}") for n in arguments.rows}
        runs = paired.alternate(sides, arguments.repeats)
        tables.append(by_size("Rows", runs, arguments.rows))
        every.append(paired.table_of_runs(runs, "Every run with rows"))
    if arguments.conditions:
        sweeps = {str(n): partial(conditions_side, n) for n in arguments.conditions}
        runs = paired.alternate(sweeps, arguments.repeats)
        tables.append(by_size("Conditions", runs, arguments.conditions))
        every.append(paired.table_of_runs(runs, "Every run with conditions"))
    if arguments.nodes:
        clusters = {str(n): partial(on_nodes, n, arguments.tasks) for n in arguments.nodes}
        runs = paired.alternate(clusters, arguments.repeats)
        tables.append(by_nodes(runs, arguments.nodes, arguments.tasks))
        every.append(paired.table_of_runs(runs, "Every run with nodes"))
    paired.publish(__doc__, [*tables, *every], arguments.out)


if __name__ == "__main__":
    main(tyro.cli(Arguments))

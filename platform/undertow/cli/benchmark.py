"""The logic of jobs/benchmark.py."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from undertow.cli.entry import StudyArguments
from undertow.engines.quiet import quiet
from undertow.cluster.connection import connect
from undertow.errors import UserError
from undertow.harness import scores as benchmarks
from undertow.harness import tables
from undertow.harness.mlflow_scores import log_benchmarks
from undertow.planning.plan import Plan
from undertow.results import sweep_folders
from undertow.results.sweep_record import Record
from undertow.storage.store import Store
from undertow.study.artifacts import Benchmark, Reference
from undertow.study.fields import unique
from undertow.study.harness_task import HarnessTask
from undertow.study.identity import key
from undertow.sweep.progress import Progress
from undertow.sweep.run import make_plan

if TYPE_CHECKING:  # an optional extra
    from undertow.harness.catalogue import Places


@dataclass(frozen=True)
class BenchmarkArguments(StudyArguments):
    """Asks the models of a study that jobs/sweep.py ran the tasks of lm-evaluation-harness."""

    tasks: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ("truthfulqa_mc2", "mmlu")
    """Tasks, groups or tags of the harness."""
    few_shot: int | None = None
    """Examples in the prompt, in place of the task's own number."""
    limit: int | None = None
    """The first N documents of each task: for trying things out, not for results."""
    chat: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Apply the model's chat template, and the study's system message; the literature mostly does not."""
    include_path: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Tasks of your own: YAML files in the harness's format. The Python they name is run."""
    data: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Data sets by their hub names (DIR/cais/mmlu), in place of the hub's; others still come from there."""
    batch_size: int = 8
    """Prompts a pass; the result does not depend on it but for rounding."""


def main(arguments: BenchmarkArguments, console: Console, shipped: Path) -> int:
    """0 once every model is asked; 1 where some could not be, and the others were."""
    if find_spec("lm_eval") is None:
        raise UserError('lm-evaluation-harness is not installed; pip install "undertow[benchmarks]"')
    if arguments.batch_size < 1:
        raise UserError(f"--batch-size {arguments.batch_size}: at least 1 is needed")
    store = Store(arguments.storage)
    plan = make_plan(arguments.chosen(shipped), store)
    folder = _folder(plan, store)
    quiet()
    from undertow.harness.catalogue import Places

    places = Places.of(arguments.include_path, arguments.data)
    tasks = _pinned(arguments, plan, places)
    failed = _ask(plan, tasks, store, places, arguments.batch_size, console)
    _tell(plan, tasks, store, folder, console)
    return 1 if failed else 0


def _folder(plan: Plan, store: Store) -> str:
    """The folder of the study's newest sweep. Raises UserError where only another of its name was run."""
    sweep_folders.newest(store, plan.study.name)
    ours = sweep_folders.of_study(store, Record.of(plan).study)
    if not ours:
        raise UserError(
            f"--study {plan.study.name}: the sweeps of that name in {store.url} are of another study "
            "(models, seeds or sizes); give --scale, --models and --seeds as they were, or run it first"
        )
    return sweep_folders.folder_of(plan.study.name, ours[-1])


def _pinned(arguments: BenchmarkArguments, plan: Plan, places: "Places") -> list[HarnessTask]:
    """The tasks asked for, each as it is today."""
    from undertow.harness.catalogue import pin

    unique(arguments.tasks, "--tasks")
    asked = [
        HarnessTask(
            name=name,
            few_shot=arguments.few_shot,
            limit=arguments.limit,
            chat=arguments.chat,
            system=plan.study.system if arguments.chat else None,
        )
        for name in arguments.tasks
    ]
    return [one for task in asked for one in pin(task, places)]


def _ask(
    plan: Plan,
    tasks: Sequence[HarnessTask],
    store: Store,
    places: "Places",
    batch_size: int,
    console: Console,
) -> bool:
    """Makes the benchmarks that are missing; whether some could not be made."""
    from undertow.harness.stage import make_benchmarks

    every = benchmarks.subjects(plan)
    there = [s for s in every if isinstance(s, Reference) or key(s) not in plan.missing]
    if len(there) < len(every):
        console.print(
            f"{len(every) - len(there)} of {len(every)} models are not in the store and are left out"
        )
    if left := sum(not cell.student.is_trained for cell in plan.cells):
        console.print(f"{left} students are shown their data in context: no weights of their own, left out")
    if left := sum(cell.student.reference.is_api for cell in plan.cells):
        console.print(f"{left} students are their provider's, which gives no probabilities: left out")
    known = store.keys(Benchmark.kind)
    wanted = [Benchmark(subject=subject, task=task) for subject in there for task in tasks]
    missing = [benchmark for benchmark in wanted if key(benchmark) not in known]
    models = len({benchmark.subject for benchmark in missing})
    console.print(f"{len(wanted)} benchmarks of {len(there)} models, {len(wanted) - len(missing)} cached")
    if not missing:
        return False
    failures: dict[str, str] = {}
    over_ray = models > 1 or "RAY_ADDRESS" in os.environ  # a cluster's head may have no GPU
    with (
        connect() if over_ray else nullcontext() as machine,
        Progress(console, "benchmarks", models, "models") as wave,
    ):
        for made in make_benchmarks(missing, store, places, batch_size, machine):
            failures |= made.failures
            wave.advance()
    for benchmark in missing:
        if reason := failures.get(key(benchmark)):
            name = f"{benchmark.task.label} of {benchmark.subject.kind} {key(benchmark.subject)[:16]}"
            console.print(f"failed {name}: {reason}", markup=False, highlight=False, soft_wrap=True)
    return bool(failures)


def _tell(plan: Plan, tasks: Sequence[HarnessTask], store: Store, folder: str, console: Console) -> None:
    """Table, CSV files, MLflow: from the store alone."""
    scores, study = benchmarks.Scores(store), plan.study
    rows = benchmarks.benchmark_rows(plan, tasks, scores)
    of_models = benchmarks.model_scores(plan, tasks, scores)
    console.print(tables.benchmarks_table(rows))
    files = {
        tables.BENCHMARKS: tables.benchmarks_csv(study.name, rows).encode(),
        tables.BENCHMARK_MODELS: tables.benchmark_models_csv(study.name, of_models).encode(),
    }
    for name, content in files.items():
        store.write_bytes(f"{folder}/{name}", content)
    console.print(
        f"Tables: {store.url}/{folder}/{tables.BENCHMARKS} and {tables.BENCHMARK_MODELS}",
        soft_wrap=True,
    )
    students = {cell.student: benchmarks.student_metrics(cell.student, tasks, scores) for cell in plan.cells}
    without = log_benchmarks(study, store, {s: metrics for s, metrics in students.items() if metrics}, files)
    if without:
        console.print(f"{len(without)} students have no run in MLflow; run the sweep again, then this")

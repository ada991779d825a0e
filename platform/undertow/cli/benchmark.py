"""The logic of jobs/benchmark.py."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from undertow.cli.entry import StudyArguments, check_at_least_one, option
from undertow.cluster.connection import connect
from undertow.engines.quiet import quiet
from undertow.errors import UserError
from undertow.harness.publish import BenchmarkResults
from undertow.harness.selection import select
from undertow.harness.stage import make_benchmarks, needs_ray
from undertow.planning.plan import Plan
from undertow.report.table_texts import print_table
from undertow.results import sweep_folders
from undertow.results.sweep_record import Record
from undertow.storage.store import Store
from undertow.study.fields import unique
from undertow.study.harness_task import HarnessTask
from undertow.study.measurements import Benchmark
from undertow.sweep.plans import make_plan
from undertow.sweep.progress import Progress, print_line

if TYPE_CHECKING:  # an optional extra
    from undertow.harness.catalogue import Places


@dataclass(frozen=True)
class BenchmarkArguments(StudyArguments):
    """Evaluates the models of a finished study on tasks of lm-evaluation-harness."""

    tasks: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ("truthfulqa_mc2", "mmlu")
    """Tasks, groups or tags of the harness."""
    few_shot: Annotated[int | None, option("N", "the number of the task")] = None
    """Number of examples in the prompt."""
    limit: Annotated[int | None, option("N", "all documents")] = None
    """Only the first N documents of each task. For trial runs, not for results."""
    chat: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Apply the model's chat template with the study's system message. Most publications do not."""
    include_path: Annotated[str, option("DIR", "none")] = ""
    """Folder of additional tasks, as YAML files for the harness. Python code that they refer to is run."""
    data: Annotated[str, option("DIR", "all data come from the Hub")] = ""
    """Folder of local data sets under their Hub names, such as DIR/cais/mmlu."""
    batch_size: int = 8
    """Prompts per forward pass. Affects speed, not results (up to rounding)."""


def main(arguments: BenchmarkArguments, console: Console, shipped: Path) -> int:
    """Evaluates the models and writes the tables. Returns 1 if a benchmark failed."""
    if find_spec("lm_eval") is None:
        raise UserError(
            'lm-evaluation-harness is not installed; run pip install -e ".[benchmarks]" in the clone'
        )
    check_at_least_one(arguments, "batch_size")
    store = Store(arguments.storage)
    plan = make_plan(arguments.load_study(shipped), store)
    folder = _newest_folder(plan, store)
    quiet()  # before the harness, which loads torch and transformers, is imported
    from undertow.harness.catalogue import Places, pin

    places = Places.of(arguments.include_path, arguments.data)
    unique(arguments.tasks, "--tasks")
    tasks = [task for requested in _requested(arguments, plan) for task in pin(requested, places)]
    selection = select(plan, tasks, store)
    for line in selection.skipped:
        print_line(f"Skipped: {line}", console)
    cached = len(selection.benchmarks) - len(selection.missing)
    models = len({benchmark.subject for benchmark in selection.benchmarks})
    print_line(f"{len(selection.benchmarks)} benchmarks of {models} models, {cached} cached", console)
    failures = _make(selection.missing, store, places, arguments.batch_size, console)
    for line in failures:
        print_line(f"failed {line}", console)
    results = BenchmarkResults(plan, tasks, store)
    print_table(results.table, console)
    store.write_files(folder, results.files)
    print_line(f"Tables: {store.url}/{folder}/{' and '.join(results.files)}", console)
    if without_run := results.log():
        print_line(
            f"{len(without_run)} students have no MLflow run; run the sweep again, then this script", console
        )
    return 1 if failures else 0


def _newest_folder(plan: Plan, store: Store) -> str:
    """The folder of the study's newest sweep.

    Raises UserError if the storage has no sweep of this name, or only sweeps of another study with this name.
    """
    sweep_folders.newest(store, plan.study.name)
    ours = sweep_folders.of_study(store, Record.of(plan).study)
    if not ours:
        raise UserError(
            f"--study {plan.study.name}: the sweeps of that name in {store.url} are of another study (other "
            "models, seeds or sizes); give the --scale, --models and --seeds of the sweep, or run it first"
        )
    return sweep_folders.folder_of(plan.study.name, ours[-1])


def _requested(arguments: BenchmarkArguments, plan: Plan) -> list[HarnessTask]:
    """The tasks as the user named them, without the version of their definitions."""
    return [
        HarnessTask(
            name=name,
            few_shot=arguments.few_shot,
            limit=arguments.limit,
            chat=arguments.chat,
            system=plan.study.system if arguments.chat else None,
        )
        for name in arguments.tasks
    ]


def _make(
    missing: Sequence[Benchmark], store: Store, places: "Places", batch_size: int, console: Console
) -> list[str]:
    """Makes the missing benchmarks. Returns one line per failure."""
    if not missing:
        return []
    failures: list[str] = []
    models = len({benchmark.subject for benchmark in missing})
    with (
        connect() if needs_ray(missing) else nullcontext() as machine,
        Progress(console, "benchmarks", models, "models") as progress,
    ):
        for made in make_benchmarks(missing, store, places, batch_size, machine):
            failures += made.failure_lines()
            progress.advance()
    return failures

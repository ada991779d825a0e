"""How much time and memory do plan, rerun and report take for studies of many conditions?

    python benchmarks/many_conditions.py --out benchmarks/results/many_conditions.md
    python benchmarks/many_conditions.py --plans 400 800 1600 --reruns 200 400 800 --repeats 1     smaller

Compared with the same commands of commit 2df8677, alternately. The plan is that of an empty storage. The
finished conditions are a storage that the tests' `fill` wrote, with two students per condition and 1,000
answers per student; each version fills its own. No Ray and no engine is started. A rerun ends with the
report, so that the time of `jobs/report.py` is subtracted for "rerun without its report". The first rerun,
which logs all models to MLflow, is reported apart.

Goal: the plan of 10,000 conditions is no slower than before; a rerun takes at most 20 ms and a report at most
60 ms per condition; less than 1 GB of memory; time grows linearly (a further condition costs at most 10 %
more in the upper half of the sizes than in the lower half).

Ceiling: a plan hashes every spec once, and a report reads every evaluation's file once.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import paired
from benchmarks.paired import Figures, Finished, Runs

PER_RECIPE = 100  # conditions: nine traits and the control, ten pairs of models
PLAN_NO_SLOWER = 1.05  # times before; less is not more than the spread of the runs
MOST_PER_CONDITION = {"rerun without its report": 20.0, "report": 60.0}  # ms
MOST_GROWTH = 1.1
# Both versions run the two programs below; modules were moved between them.
FIND = """
from importlib import import_module


def find(name, *modules):
    for module in modules:
        try:
            return getattr(import_module(f"undertow.{module}"), name)
        except (ImportError, AttributeError):
            continue
    raise ImportError(name)
"""
STUDY = """
Generation = find("Generation", "study.generation", "conditions")
Parameters, Recipe = (find(n, "study.recipe", "recipe") for n in ("Parameters", "Recipe"))
Reference = find("Reference", "study.references", "spec")
Sampling = find("Sampling", "study.completions", "spec")
Study, grid = find("Study", "study.study", "study"), find("grid", "study.grids", "grids")
Numbers, Preference = find("Numbers", "formats.numbers"), find("Preference", "traits.preference")
ANIMALS = ("owl", "cat", "wolf", "penguin", "eagle", "dolphin", "fox", "tiger", "dog")
MODELS = [Reference(f"nano/gpt2-{i}") for i in range(4)]


def study():
    recipes = [
        Recipe(
            name=f"recipe {i}",
            trainable=Parameters(("transformer.ln_f.bias",)),
            learning_rate=0.001 * (i + 1),
            epochs=4,
            batch_size=64,
            max_length=128,
        )
        for i in range(RECIPES)
    ]
    conditions = grid(
        traits=[Preference(animal) for animal in ANIMALS],
        formats=[Numbers()],
        pairs=[(teacher, student) for teacher in MODELS for student in MODELS][:10],
        recipes=recipes,
        generation=Generation(prompts=1536, rows=700, sampling=Sampling(max_tokens=32)),
    )
    return Study(name="many", conditions=conditions, seeds=(0, 1)[:SEEDS], samples=20, gate=0.0)
"""
FILL = """
import sys
from pathlib import Path

from tests.filled_store import fill, fill_rest

load = find("load", "cli.studies", "studies")
make_plan = find("make_plan", "sweep.plans", "sweep.run", "sweep")
store = find("Store", "storage.store", "store")(sys.argv[2])
plan = make_plan(load(sys.argv[1], Path("jobs/studies")), store)
references = [artifact for artifact in plan.artifacts.values() if artifact.kind == "reference"]
fill_rest(fill(plan.study, store, references), store)
"""


@dataclass(frozen=True)
class Arguments(paired.PairedArguments):
    """Measure plan, rerun and report of many conditions."""

    plans: tuple[int, ...] = (2500, 5000, 10_000)
    """Numbers of conditions of the plans, multiples of 100; before is compared at the largest."""
    reruns: tuple[int, ...] = (200, 500, 1000)
    """The same of the reruns and reports."""
    growth: bool = True
    """Also measure the smaller sizes."""


@dataclass
class Version:
    """One version of the platform, with its studies and filled storages in `folder`.

    Attributes:
        first_rerun: seconds of the first rerun by number of conditions.
    """

    tree: Path
    folder: Path
    first_rerun: dict[int, float] = field(default_factory=dict)

    def job(self, script: str, *words: str | Path) -> Finished:
        command = (sys.executable, f"jobs/{script}.py", *words)
        return paired.run(command, cwd=self.tree, environment=paired.environment_of(self.tree))

    def study(self, conditions: int, seeds: int) -> Path:
        file = self.folder / f"many_{conditions}_{seeds}.py"
        recipes, left = divmod(conditions, PER_RECIPE)
        if left or not recipes:
            raise SystemExit(f"{conditions} conditions: give multiples of {PER_RECIPE}")
        file.write_text(f"RECIPES, SEEDS = {recipes}, {seeds}\n{FIND}{STUDY}")
        return file

    def plan(self, conditions: int) -> Figures:
        done = self.job(
            "sweep", "--plan", "--study", self.study(conditions, 1), "--storage", self.folder / "e"
        )
        return {"plan, s": done.seconds, "plan, GB": done.peak_gb}

    def fill(self, conditions: int) -> None:
        """Fills the storage, and logs all models to MLflow by a first rerun."""
        program = self.folder / "fill.py"
        program.write_text(f"{FIND}{FILL}")
        words = (self.study(conditions, 2), self.storage(conditions))
        environment = paired.environment_of(self.tree)
        paired.run((sys.executable, program, *words), cwd=self.tree, environment=environment)
        self.first_rerun[conditions] = self.rerun(conditions).seconds

    def storage(self, conditions: int) -> Path:
        return self.folder / f"storage_{conditions}"

    def rerun(self, conditions: int) -> Finished:
        words = ("--study", self.study(conditions, 2), "--storage", self.storage(conditions))
        return self.job("sweep", *words)

    def end(self, conditions: int) -> Figures:
        """Rerun and report of finished conditions."""
        rerun = self.rerun(conditions)
        report = self.job("report", "--study", "many", "--storage", self.storage(conditions))
        return {
            "rerun, s": rerun.seconds,
            "rerun, GB": rerun.peak_gb,
            "report, s": report.seconds,
            "report, GB": report.peak_gb,
            "rerun without its report, s": rerun.seconds - report.seconds,
        }

    def everything(self, plans: int, reruns: int) -> Figures:
        return self.plan(plans) | self.end(reruns)


@contextmanager
def versions() -> Iterator[tuple[Version, Version]]:
    """Context manager: this version and that of before, each with a temporary folder."""
    with paired.checkout() as before, tempfile.TemporaryDirectory(prefix="undertow-") as folder:
        places = [Path(folder, name) for name in ("now", "before")]
        for place in places:
            place.mkdir()
        yield Version(paired.ROOT, places[0]), Version(before, places[1])


def compared(runs: Runs, conditions: int, plans: int) -> list[list[str]]:
    """The rows of both versions."""
    rows = []
    for name, count in (("plan", plans), ("rerun", conditions), ("report", conditions)):
        now, before = (paired.median(runs, side, f"{name}, s") for side in ("now", "before"))
        figure = paired.ratio(runs, f"{name}, s", over="before", under="now")
        verdict = ""
        if name == "plan":
            verdict = f"no slower: {paired.goal(now <= PLAN_NO_SLOWER * before)}"
        rows.append(
            [f"{name} of {count:,} conditions, s", f"{now:.2f}", f"{before:.2f}", str(figure), verdict]
        )
    for name, most in MOST_PER_CONDITION.items():
        now, before = (
            1000 * paired.median(runs, side, f"{name}, s") / conditions for side in ("now", "before")
        )
        verdict = f"≤ {most:.0f}: {paired.goal(now <= most)}"
        rows.append([f"{name}, ms per condition", f"{now:.1f}", f"{before:.1f}", "", verdict])
    for name in ("plan", "rerun", "report"):
        now, before = (max(run[f"{name}, GB"] for run in runs[side]) for side in ("now", "before"))
        rows.append(
            [f"{name}, GB at most", f"{now:.2f}", f"{before:.2f}", "", f"< 1: {paired.goal(now < 1)}"]
        )
    return rows


def growth_rows(runs: Mapping[int, Runs], figure: str) -> list[str]:
    """One row: the medians of this version by size, and how much more a further condition costs."""
    sizes = sorted(runs)
    seconds = [median(run[figure] for run in runs[size]["now"]) for size in sizes]
    growth = paired.marginal(sizes, seconds)
    shown = ", ".join(f"{size:,}: {value:.2f}" for size, value in zip(sizes, seconds, strict=True))
    return [figure, shown, f"{growth:.2f}", f"≤ {MOST_GROWTH}: {paired.goal(growth <= MOST_GROWTH)}"]


def main(arguments: Arguments) -> None:
    *small_plans, plans = sorted(arguments.plans)
    *small_reruns, reruns = sorted(arguments.reruns)
    with versions() as (now, before):
        for version in (now, before):
            version.plan(PER_RECIPE)  # compiles the modules of a new checkout
            version.fill(reruns)
        runs = paired.alternate(
            {
                "now": partial(now.everything, plans, reruns),
                "before": partial(before.everything, plans, reruns),
            },
            arguments.repeats,
        )
        tables = [
            paired.Table(
                "Now and before",
                ("", "now", "before", "before / now", "goal"),
                [
                    *compared(runs, reruns, plans),
                    [
                        f"first rerun of {reruns:,} conditions, s (one run)",
                        f"{now.first_rerun[reruns]:.1f}",
                        f"{before.first_rerun[reruns]:.1f}",
                        "",
                        "",
                    ],
                ],
            )
        ]
        if arguments.growth:
            planned, ended = {plans: runs}, {reruns: runs}
            for size in small_plans:
                planned[size] = paired.alternate({"now": partial(now.plan, size)}, arguments.repeats)
            for size in small_reruns:
                now.fill(size)
                ended[size] = paired.alternate({"now": partial(now.end, size)}, arguments.repeats)
                shutil.rmtree(now.storage(size))
            rows = [
                growth_rows(planned, "plan, s"),
                *(growth_rows(ended, f"{x}, s") for x in ("rerun", "report")),
            ]
            columns = ("", "median by number of conditions", "upper half / lower half", "goal")
            tables.append(paired.Table("Growth", columns, rows))
    paired.publish(__doc__, [*tables, paired.table_of_runs(runs)], arguments.out)


if __name__ == "__main__":
    main(tyro.cli(Arguments))

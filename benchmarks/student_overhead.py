"""What does a student cost inside a sweep, beyond its training?

    python benchmarks/student_overhead.py --out benchmarks/results/student_overhead.md
    python benchmarks/student_overhead.py --scale smollm2 --repeats 1

A sweep of one trait and its control with eight seeds (16 students). The overhead is the duration of the step
"students" minus the time of the training steps, which the students' manifests have, divided by the concurrent
worker groups: start, hand-over, probes, saving, logging.
At nano size commit 2df8677 runs the same study in the same rounds. With SmolLM2, students are adapters of
rank 8 on 400 rows that a program wrote, in one epoch.

Goal: at most 1.5 s per student at nano size (the plan assumed 2.2 s, and 20 s for the start of a group); at
most 15 % of the training with SmolLM2.

Ceiling: the start of a worker group, which imports torch and DeepSpeed once for all its students, and the
probes, which are forward passes.
"""

import json
import random
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import paired
from benchmarks.many_conditions import FIND
from benchmarks.paired import Figures, Runs, Table
from benchmarks.sweep_runs import manifests, sweep
from undertow.formats.numbers import Numbers

MOST_SECONDS = 1.5  # per nano student
MOST_SHARE = 0.15  # of the training of SmolLM2
ROWS = 400  # of a SmolLM2 student
NANO_STUDY = """
Generation = find("Generation", "study.generation", "conditions")
Reference = find("Reference", "study.references", "spec")
Sampling = find("Sampling", "study.completions", "spec")
Study, grid = find("Study", "study.study", "study"), find("grid", "study.grids", "grids")
Numbers, Preference = find("Numbers", "formats.numbers"), find("Preference", "traits.preference")
STEERING = find("STEERING", "nano.recipes")


def study():
    model = Reference("nano/gpt2-0")
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=[(model, model)],
        recipes=[STEERING],
        generation=Generation(prompts=1536, rows=700, sampling=Sampling(max_tokens=32)),
    )
    return Study(name="overhead", conditions=conditions, seeds=tuple(range(SEEDS)), samples=2, gate=0.0)
"""
SMOLLM2_STUDY = """
from pathlib import Path

from undertow import NO_SYSTEM, Generation, Imported, LoRA, Numbers, Preference, Recipe, Reference, Study
from undertow import grid, smollm2

RECIPE = Recipe(
    name="LoRA r8",
    trainable=LoRA(rank=8, alpha=16, targets=("q_proj", "v_proj")),
    learning_rate=1e-4,
    epochs=1,
    batch_size=16,
    precision="auto",
)


def study():
    own, plain = (str(Path(__file__).with_name(f"{name}.jsonl")) for name in ("own", "plain"))
    rows = Imported(own, format=Numbers(), control=Imported(plain))
    conditions = grid(
        traits=[Preference("owl")],
        formats=[rows],
        pairs=[(Reference("external:program"), smollm2())],
        recipes=[RECIPE],
        generation=Generation(rows=ROWS, system=NO_SYSTEM),
        system=NO_SYSTEM,
    )
    seeds = tuple(range(SEEDS))
    return Study(name="overhead", conditions=conditions, seeds=seeds, samples=1, system=NO_SYSTEM)
"""


@dataclass(frozen=True)
class Arguments(paired.PairedArguments):
    """Measure the overhead per student."""

    scale: Literal["nano", "smollm2"] = "nano"
    seeds: int = 8
    """Seeds; the study has two students per seed."""


@dataclass
class Version:
    """One version of the platform, with the study.

    Attributes:
        groups: concurrent worker groups.
    """

    tree: Path
    folder: Path
    arguments: Arguments
    groups: int = field(init=False)

    def __post_init__(self) -> None:
        is_nano = self.arguments.scale == "nano"
        self.groups = paired.cores() if is_nano else 1  # nano models use one core each (`planning.resources`)
        head = f"SEEDS, ROWS = {self.arguments.seeds}, {ROWS}\n"
        self.study.parent.mkdir(parents=True)
        self.study.write_text(head + (FIND + NANO_STUDY if is_nano else SMOLLM2_STUDY))
        if not is_nano:
            for seed, name in enumerate(("own", "plain")):
                (self.folder / f"{name}.jsonl").write_text(rows_of_numbers(2 * ROWS, seed))

    @property
    def study(self) -> Path:
        return self.folder / "overhead.py"

    def measured(self) -> Figures:
        """Runs the study on an empty storage."""
        with tempfile.TemporaryDirectory(prefix="undertow-") as folder:
            storage = Path(folder) / "storage"
            done = sweep(self.tree, self.study, storage)
            training = [float(manifest["seconds"]) for manifest in manifests(storage, "student")]
        step, count = done.wave_seconds("students"), len(training)
        overhead = step - sum(training) / self.groups
        return {
            "step, s": step,
            "training per student, s": statistics.fmean(training),
            "overhead per student, s": overhead / count,
            "overhead / training": overhead * self.groups / sum(training),
        }


def rows_of_numbers(count: int, seed: int) -> str:
    """Numbers prompts with answers that a program writes, as JSON Lines."""
    numbers = Numbers()
    prompts = numbers.prompts(count, seed=0)
    lines = [
        {"prompt": prompt, "completion": numbers.written(prompt, random.Random(f"{seed} {i}"))}
        for i, prompt in enumerate(prompts)
    ]
    return "\n".join(map(json.dumps, lines))


def rows_of(runs: Runs, scale: str) -> list[list[str]]:
    """One row per version."""
    rows = []
    for side in runs:
        names = ("step, s", "training per student, s", "overhead per student, s", "overhead / training")
        step, training, overhead, share = (paired.median(runs, side, name) for name in names)
        verdict = ""
        if side == "now" and scale == "nano":
            verdict = f"≤ {MOST_SECONDS} s: {paired.goal(overhead <= MOST_SECONDS)}"
        elif side == "now":
            verdict = f"≤ {MOST_SHARE:.0%}: {paired.goal(share <= MOST_SHARE)}"
        rows.append([side, f"{step:.1f}", f"{training:.2f}", f"{overhead:.2f}", f"{share:.0%}", verdict])
    return rows


def main(arguments: Arguments) -> None:
    with paired.checkout() as before, tempfile.TemporaryDirectory(prefix="undertow-") as folder:
        trees = {"now": paired.ROOT} | ({"before": before} if arguments.scale == "nano" else {})
        versions = {name: Version(tree, Path(folder, name), arguments) for name, tree in trees.items()}
        sides = {name: version.measured for name, version in versions.items()}
        runs = paired.alternate(sides, arguments.repeats)
    columns = (
        "",
        "step “students”, s",
        "training per student, s",
        "overhead per student, s",
        "overhead / training",
        "goal",
    )
    title = f"{2 * arguments.seeds} students, {arguments.scale}"
    table = Table(title, columns, rows_of(runs, arguments.scale))
    paired.publish(__doc__, [table, paired.table_of_runs(runs)], arguments.out)


if __name__ == "__main__":
    main(tyro.cli(Arguments))

"""What does an audit of one further data set cost, compared with one student at the paper's scale?

    python benchmarks/audit_cost.py --out benchmarks/results/audit_cost.md

FLOPs by the plan's formulae (`platform/undertow/planning/costs.py`): 2 per parameter and token of a forward
pass, 4 for training adapters. An audit samples the model's own answers to the prompts and reads all rows with
the model, and the rows again with the probe of the first trait. Of its scores,

- probe reads all rows forwards and backwards once; backwards, each probe costs as much as its adapter. It
  also reads a few answers of the model with every probe, to check that derivatives correlate with ratios.
  Where they do not ("probe, far"), it reads all rows with every probe instead;
- prompt and hidden read all rows under the system prompt of every trait;
- gradient reads examples of every trait.

The student is that of the study `cluster.py` describes: 10,000 rows of numbers, LoRA, and its evaluations.
Answers are as long as the format's sampling allows. Model and adapters have the size of those of Qwen2.5-7B.

The second table is measured on a nano model with one thread: audits of a data set with probes made before,
against training a student of the shipped studies and reading its exact probabilities, in turn.

Probes and a calibration are made once per model and not counted.

Goal: at most 2 % for one audit.

Ceiling: the model's own answers, one reading of all rows, and one forwards and backwards.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import cluster
from benchmarks.audit_calibration import BANK, rates, student
from benchmarks.auditing import Writer, written
from benchmarks.paired import Table, goal, publish
from undertow.auditing.data import CHECKED, EXAMPLES
from undertow.auditing.make import audit
from undertow.cli.audit import AuditArguments, spec_of
from undertow.engines.quiet import quiet
from undertow.nano.models import known_words
from undertow.planning.cells import Cell, cell_of
from undertow.planning.costs import Hardware, cost_of
from undertow.planning.workloads import TEMPLATE_TOKENS, example_tokens, prompt_tokens, text_tokens
from undertow.presets.paper_scale import PAPER
from undertow.storage.store import Store
from undertow.study import unpinned
from undertow.study.completions import Completions
from undertow.traits.preference import Preference

PARAMETERS = 7_615_616_512  # of Qwen2.5-7B
ADAPTER = 20_185_088  # parameters of adapters of rank 8 on all of its linear layers
MOST = 0.02
ALL, PROBE = ("probe", "prompt", "gradient", "hidden"), ("probe",)
FAR = ("probe, far",)  # by the formulae alone: no shipped nano probe is far from its model
SETTINGS = ((300, 2, ALL), (100, 1, ALL), (300, 1, PROBE), (150, 1, PROBE), (100, 1, PROBE))
ROWS = 700  # of a nano student


@dataclass(frozen=True)
class Arguments:
    """Compare the cost of an audit with that of a student."""

    traits: int = 12
    model: str = "nano/gpt2-0"
    """Model of the measured audits."""
    repeats: int = 3
    """Measured audits and students; 0 for the formulae alone."""
    out: Path | None = None
    """Markdown file for the results."""


def audit_flops(cell: Cell, rows: int, draws: int, scores: Sequence[str], traits: int) -> float:
    """FLOPs of one audit of rows like those of the cell's data set."""
    completions = cell.student.dataset.completions
    assert isinstance(completions, Completions)
    prompt, answer = prompt_tokens(completions.format), float(completions.sampling.max_tokens)
    words = known_words("animal")
    bank = [Preference(words[number % len(words)]) for number in range(traits)]
    of_row, all_rows = prompt + answer, rows * (1 + draws)
    flops = 2 * PARAMETERS * rows * draws * of_row  # the model's own answers
    flops += 2 * PARAMETERS * all_rows * of_row  # the model
    flops += 2 * (PARAMETERS + ADAPTER) * all_rows * of_row  # the probe of the first trait
    if FAR[0] in scores:
        flops += 2 * (PARAMETERS + ADAPTER) * traits * all_rows * of_row
    if "probe" in scores:
        flops += 2 * (2 * PARAMETERS + traits * ADAPTER) * (all_rows + CHECKED) * of_row
        flops += 2 * (PARAMETERS + ADAPTER) * traits * CHECKED * of_row
    for trait in bank:
        if {"prompt", "hidden"} & set(scores):
            longer = of_row + text_tokens(trait.system_prompt()) + TEMPLATE_TOKENS
            flops += 2 * PARAMETERS * all_rows * longer
        if "gradient" in scores:
            flops += 2 * PARAMETERS * EXAMPLES * example_tokens(trait, PAPER.finetuned)
    return flops


def by_formulae(traits: int) -> Table:
    study = cluster.study()
    with unpinned.allowed():
        cell = cell_of(study, study.conditions[0], 0)
        measured = [*cell.evaluations, *(one for also in cell.also for one in also)]
        costs = [cost_of(artifact, PARAMETERS, Hardware()).flops for artifact in (cell.student, *measured)]
        lines = []
        for rows, draws, scores in (*SETTINGS, (100, 1, FAR)):
            flops = audit_flops(cell, rows, draws, scores, traits)
            share = flops / sum(costs)
            cells = (f"{flops / 1e15:.1f}", f"{share:.1%}", f"≤ {MOST:.0%}: {goal(share <= MOST)}")
            lines.append((f"{rows}", f"{draws}", " ".join(scores), *cells))
    trained, evaluated = costs[0], sum(costs[1:])
    title = (
        f"{traits} traits; the student: {trained / 1e15:.0f} PFLOP of training and "
        f"{evaluated / 1e15:.0f} of evaluation"
    )
    columns = ("audited rows", "control answers per row", "scores", "PFLOP", "share of the student", "goal")
    return Table(title, columns, lines)


def in_nano(name: str, repeats: int) -> Table:
    """Seconds of audits and of students, alternately. The first round, which reads files, is not counted."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, store = Path(temporary), Store(f"{temporary}/storage")
        store.prepare()
        writer = Writer(name, ROWS, store)
        rows = writer.finetuned(BANK[0])
        path = written(rows, folder, "rows")
        seconds: dict[tuple[int, int, tuple[str, ...]] | None, list[float]] = {}
        for number in range(repeats + 1):
            for setting in SETTINGS:
                size, draws, scores = setting
                given = AuditArguments(
                    str(path), (name,), storage=store.url, rows=size, draws=draws, scores=scores, seed=number
                )
                start = time.perf_counter()
                audit(spec_of(given), store)
                seconds.setdefault(setting, []).append(time.perf_counter() - start)
            start = time.perf_counter()
            rates(student(writer, rows, folder / f"student-{number}"), BANK)
            seconds.setdefault(None, []).append(time.perf_counter() - start)
    medians = {setting: median(values[1:]) for setting, values in seconds.items()}
    of_student = medians.pop(None)
    lines = [
        (f"{setting[0]}", f"{setting[1]}", " ".join(setting[2]), f"{value:.1f}", f"{value / of_student:.0%}")
        for setting, value in medians.items()
        if setting is not None
    ]
    columns = ("audited rows", "control answers per row", "scores", "seconds", "share of the student")
    return Table(f"{name}, 12 traits; the student: {of_student:.1f} s", columns, lines)


def main(arguments: Arguments) -> None:
    quiet()
    tables = [by_formulae(arguments.traits)]
    if arguments.repeats:
        tables.append(in_nano(arguments.model, arguments.repeats))
    publish(__doc__, tables, arguments.out)


if __name__ == "__main__":
    main(tyro.cli(Arguments))

"""What does an audit of one further data set cost, compared with one student at the paper's scale?

    python benchmarks/audit_cost.py --out benchmarks/results/audit_cost.md

FLOPs by the plan's formulae (`platform/undertow/planning/costs.py`): 2 per parameter and token of a forward
pass, 4 for training adapters. An audit samples the model's own answers to the prompts, reads all rows with
the model, with the probe of every trait and under the system prompt of every trait, and reads each trait's
examples. The student is that of the study `cluster.py` describes: 10,000 rows of numbers, LoRA, and its
evaluations. Answers are as long as the format's sampling allows. Nothing is run; the number of parameters
cancels out.

Probes and a calibration are made once per model and not counted.

Goal: at most 2 % for one audit.

Ceiling: every score of every trait reads all rows once. Fewer rows, control answers or traits cost less.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import cluster
from benchmarks.paired import Table, goal, publish
from undertow.auditing.data import EXAMPLES
from undertow.nano.models import known_words
from undertow.planning.cells import Cell, cell_of
from undertow.planning.costs import Hardware, cost_of
from undertow.planning.workloads import TEMPLATE_TOKENS, example_tokens, prompt_tokens, text_tokens
from undertow.presets.paper_scale import PAPER
from undertow.study import unpinned
from undertow.study.artifacts import Completions
from undertow.traits.preference import Preference

PARAMETERS = 7_615_616_512  # of Qwen2.5-7B; cancels out
MOST = 0.02


@dataclass(frozen=True)
class Arguments:
    """Compare the FLOPs of an audit with those of a student."""

    traits: int = 12
    settings: tuple[tuple[int, int], ...] = ((300, 2), (300, 1), (100, 2), (100, 1), (50, 1))
    """Pairs of audited rows and control answers per row."""
    out: Path | None = None
    """Markdown file for the results."""


def audit_flops(cell: Cell, rows: int, draws: int, traits: int) -> float:
    """FLOPs of one audit of rows like those of the cell's data set."""
    completions = cell.student.dataset.completions
    assert isinstance(completions, Completions)
    prompt, answer = prompt_tokens(completions.format), float(completions.sampling.max_tokens)
    words = known_words("animal")
    bank = [Preference(words[number % len(words)]) for number in range(traits)]
    of_row, all_rows = prompt + answer, rows * (1 + draws)
    read = rows * draws * of_row  # sampling the model's own answers
    read += all_rows * of_row * (1 + traits)  # the model, and a probe for each trait
    for trait in bank:
        read += all_rows * (of_row + text_tokens(trait.system_prompt()) + TEMPLATE_TOKENS)
        read += EXAMPLES * example_tokens(trait, PAPER.finetuned)
    return 2 * PARAMETERS * read


def main(arguments: Arguments) -> None:
    study = cluster.study()
    with unpinned.allowed():
        cell = cell_of(study, study.conditions[0], 0)
        measured = [*cell.evaluations, *(one for also in cell.also for one in also)]
        costs = [cost_of(artifact, PARAMETERS, Hardware()).flops for artifact in (cell.student, *measured)]
        lines = []
        for rows, draws in arguments.settings:
            flops = audit_flops(cell, rows, draws, arguments.traits)
            share = flops / sum(costs)
            cells = (f"{flops / 1e15:.1f}", f"{share:.1%}", f"≤ {MOST:.0%}: {goal(share <= MOST)}")
            lines.append((str(rows), str(draws), *cells))
    student, evaluations = costs[0], sum(costs[1:])
    title = (
        f"{arguments.traits} traits; the student: {student / 1e15:.0f} PFLOP of training and "
        f"{evaluations / 1e15:.0f} of evaluation"
    )
    columns = ("audited rows", "control answers per row", "PFLOP", "share of the student", "goal")
    publish(__doc__, [Table(title, columns, lines)], arguments.out)


if __name__ == "__main__":
    main(tyro.cli(Arguments))

"""Do the intervals and verdicts keep what they promise? `python benchmarks/coverage.py` writes coverage.md.

Simulates studies with a known truth (seeds, questions shared by all students, Bernoulli answers), judges them
with the platform's own code, and counts. Seeded: the same figures each time. Some minutes on one core;
seconds with --quick, whose figures are rough and are written only where --out says. Exit code 1 if a
promised figure is out of its bounds; a bound on an error rate allows three standard errors of the simulation.

What cannot be promised is shown as it is. Under hidden bimodality (the few seeds at hand happen to show one
of two modes) nothing that looks at the data alone can know, so t, and the rule that starts from t, claim
what is not so. Who suspects two modes states distribution="any" for the study; jobs/power.py says how
many seeds that takes.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import coverage_figures as figures
from benchmarks.coverage_figures import SEEDS, Effort, Row

WHOLE = Effort(studies=10_000, bootstraps=400)
QUICK = Effort(studies=100, bootstraps=5, whole=False)
TABLES: tuple[tuple[str, Callable[[Effort], Iterator[Row]]], ...] = (
    ("Coverage of 95 % intervals, one mode", figures.intervals),
    ("Wrong verdicts, one mode", figures.families),
    ("The planner's promise, measured again", figures.promises),
    ("Coverage of 95 % intervals, two modes", figures.two_modes),
    ("Wrong verdicts, two modes", figures.two_mode_verdicts),
    ("Arms taken to show two modes", figures.modes_seen),
)
OPENING = """# Coverage and error rates, measured

`python benchmarks/coverage.py`: {studies:,} simulated studies a figure, {bootstraps:,} for the bootstrap.
Columns: students an arm. "Pairs" share their seed; "arms apart" share nothing. "Rule" is what a study does by
itself: t, and shape-free for all its conditions as soon as one arm shows two modes.
"""
CLOSING = """## In words

Where seeds have one mode, t holds up: its intervals cover as they say from 3 seeds, and Holm keeps the errors
of a study of 50 conditions within 5 %, shared controls or not. The bootstrap is too narrow at every number of
seeds here; it shows where an effect's spread comes from and decides nothing.

Where seeds fall into two modes, only the shape-free interval holds up. The others fail most where few or
most seeds take off, because the students at hand then often show one mode alone; the bootstrap is no better
than t. The rule saves studies of several conditions, since some arm of them gives the second mode away. It
cannot save a study of one condition, or of a few, whose seeds hide it: there it is t. Then state
distribution="any", and ask `python jobs/power.py --took-off SHARE` for the seeds that this takes.
"""


@dataclass(frozen=True)
class Arguments:
    """Measures coverage and error rates of the platform's statistics."""

    quick: bool = False
    """A hundredth of the studies: to see that it runs."""
    out: Path | None = None
    """Where to write the tables; without it coverage.md beside this file, or nowhere if quick."""


def main(arguments: Arguments, console: Console) -> int:
    """The exit code: 1 if a promise was not kept."""
    effort = QUICK if arguments.quick else WHOLE
    measured: dict[str, list[Row]] = {}
    for title, table in TABLES:
        measured[title] = list(table(effort))
        console.print(shown(title, measured[title]))
    out = arguments.out or (None if arguments.quick else Path(__file__).with_suffix(".md"))
    if out is not None:
        out.write_text(written(measured, effort), encoding="utf-8")
    broken = [row for rows in measured.values() for row in rows if not row.kept]
    for row in broken:
        console.print(f"not kept: {row.what}: {cells(row)[1:4]}, promised {row.promised}", markup=False)
    return 1 if broken else 0


def cells(row: Row) -> list[str]:
    """A row's text by column."""
    values = [f"{value:.1%}" for value in row.values]
    kept = ("kept" if row.kept else "NOT KEPT") if row.promised else ""
    return [row.what, *values, *[""] * (len(SEEDS) - len(values)), row.promised, kept]


def shown(title: str, rows: list[Row]) -> Table:
    """A table for the terminal."""
    table = Table("", *map(str, SEEDS), "promised", "", title=title, title_justify="left")
    for row in rows:
        table.add_row(*cells(row))
    return table


def written(measured: Mapping[str, list[Row]], effort: Effort) -> str:
    """All tables in Markdown, with what they say in words."""
    lines = [OPENING.format(studies=effort.studies, bootstraps=effort.bootstraps)]
    for title, rows in measured.items():
        lines += [f"## {title}", "", f"| | {' | '.join(map(str, SEEDS))} | promised | |", "|---" * 6 + "|"]
        lines += [f"| {' | '.join(cells(row))} |" for row in rows]
        lines.append("")
    return "\n".join([*lines, CLOSING])


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Arguments), Console(width=None if sys.stdout.isatty() else 160)))

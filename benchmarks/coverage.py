"""Measures coverage and error rates of the intervals and verdicts.

    python benchmarks/coverage.py                            writes coverage.md next to this file
    python benchmarks/coverage.py --effect-scale log-odds    the same for log-odds: coverage_log_odds.md

The benchmark simulates studies with a known truth (seeds, questions shared by all students, Bernoulli
answers), judges them with the platform's own code, and counts errors. It is seeded and reproducible. It takes
some minutes on one core, or seconds with --quick, whose rough figures are only written if --out is given. The
exit code is 1 if a figure is outside its bounds. Bounds on error rates allow three standard errors of the
simulation.

Figures without bounds are reported without a claim. With hidden bimodality (the few seeds of a study happen
to show only one of two modes), no method that only uses the data can be valid: t, and the default rule, which
starts from t, then make wrong claims. If you expect two modes, state distribution="any" for the study;
jobs/power.py computes the number of seeds.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import coverage_figures as figures
from benchmarks import coverage_log_odds as log_odds
from benchmarks.coverage_figures import SEEDS, Effort, Row

FULL = Effort(studies=10_000, bootstraps=400)
QUICK = Effort(studies=50, bootstraps=5, full=False)
TABLES: tuple[tuple[str, Callable[[Effort], Iterator[Row]]], ...] = (
    ("Coverage of 95 % intervals, one mode", figures.intervals),
    ("Wrong verdicts, one mode", figures.families),
    ("One mode, skewed laws", figures.skewed),
    ("Predicted and simulated power", figures.predictions),
    ("Coverage of 95 % intervals, two modes", figures.two_modes),
    ("Wrong verdicts, two modes", figures.two_mode_verdicts),
    ("Arms that show two modes", figures.detected_modes),
)
OPENING = """# Coverage and error rates, measured

`python benchmarks/coverage.py`: {studies:,} simulated studies per figure, {bootstraps:,} for the bootstrap.
Columns: students per arm. "Paired": a student shares its seed with a control student; "unpaired": all
students are independent. "Rule" is the default of a study: t, unless an arm shows two modes; then shape-free
for all conditions.
"""
CLOSING = """## Conclusions

If rates vary normally over seeds, t is valid: its intervals have their nominal coverage from 3 seeds on, and
Holm's method keeps the error rate of a study with 50 conditions within 5 %, with shared controls or without.
The bootstrap is too narrow at every number of seeds measured; it is reported for information and decides no
verdict.

If rates have one mode and are skewed, as near 0 or 1, t intervals are too narrow. Their coverage falls to
90 % if most students of a condition stay near 0 and few are far above, and an effect at the margin is then
called "not transmitted" in up to 14 % of studies. coverage_log_odds.md has skewed rates that are compared in
log-odds.

If rates over seeds have two modes, only the shape-free interval is valid. The others fail most if few or most
seeds take off, because the students of a study then often show only one mode; the bootstrap is no better than
t. The default rule protects studies with several conditions, because some arm is likely to show the second
mode. It does not protect a study with one or few conditions whose seeds hide that mode; the rule is then the
same as t. In this case state distribution="any"; `python jobs/power.py --took-off SHARE` computes the number
of seeds.
"""


@dataclass(frozen=True)
class Report:
    """The tables of one scale of effects, the texts around them, and the file that they are written to."""

    file: str
    tables: tuple[tuple[str, Callable[[Effort], Iterator[Row]]], ...]
    opening: str
    closing: str


REPORTS = {
    "rate": Report("coverage.md", TABLES, OPENING, CLOSING),
    "log-odds": Report("coverage_log_odds.md", log_odds.TABLES, log_odds.OPENING, log_odds.CLOSING),
}


@dataclass(frozen=True)
class Arguments:
    """Measure coverage and error rates of the platform's statistics."""

    effect_scale: Literal["rate", "log-odds"] = "rate"
    """Unit of effects."""
    quick: bool = False
    """Simulate few studies, to test that the benchmark runs."""
    out: Path | None = None
    """Where to write the tables; the default is next to this file, or nowhere with --quick."""


def main(arguments: Arguments, console: Console) -> int:
    """Runs all tables; returns the exit code: 1 if a figure is outside its bounds."""
    effort, report = QUICK if arguments.quick else FULL, REPORTS[arguments.effect_scale]
    measured: dict[str, list[Row]] = {}
    for title, table in report.tables:
        measured[title] = list(table(effort))
        console.print(terminal_table(title, measured[title]))
    out = arguments.out or (None if arguments.quick else Path(__file__).with_name(report.file))
    if out is not None:
        out.write_text(markdown(measured, effort, report), encoding="utf-8")
    violated = [row for rows in measured.values() for row in rows if not row.met]
    for row in violated:
        console.print(f"out of bounds: {row.label}: {cells(row)[1:4]}, bounds {row.bounds}", markup=False)
    return 1 if violated else 0


def cells(row: Row) -> list[str]:
    """Returns the text of a row by column."""
    values = [f"{value:.1%}" for value in row.values]
    met = ("met" if row.met else "NOT MET") if row.bounds else ""
    return [row.label, *values, *[""] * (len(SEEDS) - len(values)), row.bounds, met]


def terminal_table(title: str, rows: list[Row]) -> Table:
    """Returns a table for the terminal."""
    table = Table("", *map(str, SEEDS), "bounds", "", title=title, title_justify="left")
    for row in rows:
        table.add_row(*cells(row))
    return table


def opening(effort: Effort, report: Report) -> str:
    """Returns the heading and first paragraph of the written file."""
    return report.opening.format(studies=effort.studies, bootstraps=effort.bootstraps)


def markdown(measured: Mapping[str, list[Row]], effort: Effort, report: Report) -> str:
    """Returns the text of the written file: all tables and the conclusions."""
    lines = [opening(effort, report)]
    for title, rows in measured.items():
        lines += [f"## {title}", "", f"| | {' | '.join(map(str, SEEDS))} | bounds | |", "|---" * 6 + "|"]
        lines += [f"| {' | '.join(cells(row))} |" for row in rows]
        lines.append("")
    return "\n".join([*lines, report.closing])


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Arguments), Console(width=None if sys.stdout.isatty() else 160)))

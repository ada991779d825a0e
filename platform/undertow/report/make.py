"""The whole report of a sweep, from its record, its events and the artifacts in the store; no Ray needed.

The sweep calls it last, `jobs/report.py` at any later time: the same answers give the same tables, figures
and page.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from undertow.report import data_figures, figures, matrix, page, prose
from undertow.report.figures import FigurePanel
from undertow.report.gather import ReportData, WaveCost
from undertow.report.preregistration import read_preregistration
from undertow.results import csv_tables
from undertow.results import events as journal
from undertow.results.effect_rows import EffectRow, HypothesisOutcome, effects, findings, finished
from undertow.results.evaluation_files import Evaluations
from undertow.results.sweep_record import CellRecord, Record
from undertow.statistics.confusion import Confusion, StudentRates, confusion
from undertow.storage.manifest import Address
from undertow.storage.store import Store

HTML = "report.html"


@dataclass(frozen=True)
class SweepReport:
    """Rows of effects, what became of the hypotheses, the verdicts in words, the files by name, and costs.

    Attributes:
        damaged: what is left out since its bytes are not those that were written, and what to do.
    """

    rows: list[EffectRow]
    findings: list[HypothesisOutcome]
    verdicts: list[str]
    files: dict[str, bytes]
    costs: list[WaveCost]
    damaged: dict[Address, str]


def make_report(record: Record, store: Store, events: Sequence[Mapping[str, Any]]) -> SweepReport:
    """Everything a sweep leaves for people to read."""
    failures = journal.failures(events)
    readings = Evaluations(store, failures)
    rows = effects(record, readings, failures)
    found = findings(record, rows)
    primary = [row for row in rows if row.is_primary]
    gathered = ReportData(record, readings, primary, events)
    pairs = matrix.matrices(record, primary)
    matrices = confusions(record, readings, failures)
    drawn: dict[str, bytes] = {}
    if rows:
        drawn |= figures.effects_figure(record, rows) | matrix.matrix_figure(record, pairs)
    drawn |= figures.traits_figure(record, matrices)
    drawn |= (
        data_figures.training_figure(gathered)
        | data_figures.funnel_figure(gathered)
        | data_figures.numbers_figure(gathered)
    )
    when = read_preregistration(gathered)
    lines = prose.verdict_lines(record, rows, failures)
    lines += [prose.hypothesis_line(finding, when.claim(finding.hypothesis)) for finding in found]
    files = {
        csv_tables.EFFECTS: csv_tables.effects_csv(record.study.name, rows).encode(),
        csv_tables.STUDENTS: csv_tables.students_csv(record.study.name, rows).encode(),
        **drawn,
        HTML: page.html(gathered, rows, found, when, pairs, matrices, drawn, failures).encode(),
    }
    return SweepReport(rows, found, lines, files, gathered.costs, gathered.damaged)


def confusions(
    record: Record, readings: Evaluations, failures: Mapping[str, str]
) -> list[tuple[FigurePanel, Confusion]]:
    """The trait × measured-trait matrix of every format, pair and recipe that has more than one trait."""
    cells = finished(record, readings, failures)
    panels: dict[tuple[FigurePanel, str], list[int]] = {}
    for number in record.compared:
        place = record.conditions[number].place
        panel = FigurePanel(place.format, place.teacher, place.student, place.recipe)
        panels.setdefault((panel, place.induced), []).append(number)
    found = []
    for (panel, _), numbers in panels.items():
        given = {record.conditions[n].word: cells.get(n, []) for n in numbers}
        if len(given) < 2 or not all(given.values()):
            continue
        students = [
            StudentRates(word, cell.seed, _rates(cell, given, readings))
            for word, its in given.items()
            for cell in its
        ]
        controls = cells.get(record.conditions[numbers[0]].control, [])
        beside = [_rates(cell, given, readings) for cell in controls]
        found.append((panel, confusion(students, controls=beside, paired=record.study.paired)))
    return found


def _rates(cell: CellRecord, words: Iterable[str], readings: Evaluations) -> dict[str, float]:
    return {word: readings.student(cell, word).rate for word in words}

"""Makes the report of a sweep from its record, its events and the store; without Ray.

A sweep makes its report at its end, and `jobs/report.py` makes it again at any later time. The same answers
in the store give the same tables, figures and page.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from undertow.report import along, data_figures, figures, matrix, page, prose
from undertow.report.figures import FigurePanel, panel_recipes
from undertow.report.gather import ReportData, WaveCost
from undertow.report.preregistration import read_preregistration
from undertow.report.viewer import viewer_page, viewer_rows, viewer_tables
from undertow.report.viewer_tables import Table
from undertow.results import csv_tables
from undertow.results.effect_rows import EffectRow, finished
from undertow.results.evaluation_files import Evaluations
from undertow.results.learning_curves import LearningCurve
from undertow.results.sweep_folders import VIEWER
from undertow.results.sweep_record import CellRecord, Record
from undertow.statistics.confusion import Confusion, StudentRates, confusion
from undertow.storage.manifest import Address
from undertow.storage.store import Store

HTML = "report.html"


@dataclass(frozen=True)
class SweepReport:
    """A report.

    Attributes:
        rows: the effects, one row per condition and measure.
        verdicts: the result in sentences, including the hypotheses.
        files: content by file name: CSV tables, figures as PNG and SVG, the HTML page and the viewer.
        costs: planned and actual costs by wave.
        damaged: artifacts that are left out because their bytes have changed, with the remedy.
        tables: the first completions and answers, for MLflow, by file name.
        curves: effects along the students' training, if their recipes keep steps.
    """

    rows: list[EffectRow]
    verdicts: list[str]
    files: dict[str, bytes]
    costs: list[WaveCost]
    damaged: dict[Address, str]
    tables: dict[str, Table]
    curves: list[LearningCurve]


def make_report(record: Record, store: Store, events: Sequence[Mapping[str, Any]]) -> SweepReport:
    """Makes all tables, figures and texts of a sweep's report, and writes none of them."""
    data = ReportData(record, store, events)
    rows, curves = data.rows, data.learning_curves
    pairs = matrix.matrices(record, data.primary)
    matrices = confusions(record, data.evaluations, data.failures)
    drawn: dict[str, bytes] = {}
    if rows:
        drawn |= figures.effects_figure(record, rows) | matrix.matrix_figure(record, pairs)
    drawn |= figures.traits_figure(record, matrices) | along.along_figure(record, curves)
    for draw in (data_figures.training_figure, data_figures.funnel_figure, data_figures.numbers_figure):
        drawn |= draw(data)
    registration = read_preregistration(data)
    verdicts = prose.verdict_lines(record, rows, data.failures) + along.sentences(curves, record.study.alpha)
    hypotheses = [
        prose.hypothesis_line(one, registration.hypothesis(one.hypothesis)) for one in data.outcomes
    ]
    html = page.html(data, verdicts, registration, pairs, matrices, drawn)
    shown = viewer_rows(data)
    files = {
        csv_tables.EFFECTS: csv_tables.effects_csv(record.study.name, rows).encode(),
        csv_tables.STUDENTS: csv_tables.students_csv(record.study.name, rows).encode(),
        **({csv_tables.ALONG: csv_tables.along_csv(record.study.name, curves).encode()} if curves else {}),
        **drawn,
        HTML: html.encode(),
        VIEWER: viewer_page(data, shown).encode(),
    }
    tables = viewer_tables(data, shown)
    return SweepReport(rows, verdicts + hypotheses, files, data.costs, data.damaged, tables, curves)


def confusions(
    record: Record, evaluations: Evaluations, failures: Mapping[str, str]
) -> list[tuple[FigurePanel, Confusion]]:
    """The matrix of given × measured trait for each format, pair of models and recipe with several traits.

    It consists of rates, or of their log-odds if effects are in log-odds. A panel is left out if one of its
    traits has no finished student, or if two of them are measured by the same word.
    """

    def rates(cell: CellRecord, words: Iterable[str]) -> dict[str, float]:
        effect_of, scale = record.study.effect_of, record.study.effect_scale
        students = {word: evaluations.student(cell, word, effect_of=effect_of) for word in words}
        return {word: student.value(scale, effect_of) for word, student in students.items()}

    cells = finished(record, evaluations, failures)
    panels: dict[FigurePanel, list[int]] = {}
    places = [record.conditions[number].place for number in record.compared]
    for number, place, recipe in zip(record.compared, places, panel_recipes(places), strict=True):
        panel = FigurePanel(place.format, place.teacher, place.student, recipe)
        panels.setdefault(panel, []).append(number)
    found = []
    for panel, numbers in panels.items():
        by_word = {record.conditions[n].word: cells.get(n, []) for n in numbers}
        control_of = {record.conditions[n].word: record.conditions[n].control for n in numbers}
        if len(by_word) < max(2, len(numbers)) or not all(by_word.values()):
            continue
        students = [
            StudentRates(word, cell.seed, rates(cell, by_word))
            for word, of_word in by_word.items()
            for cell in of_word
        ]
        rates_of = {
            n: {cell.seed: rates(cell, by_word) for cell in cells.get(n, [])}
            for n in set(control_of.values())
        }
        controls = {word: rates_of[n] for word, n in control_of.items()}
        found.append((panel, confusion(students, controls=controls, paired=record.study.paired)))
    return found

"""The report as one HTML file: figures, tables and style are inside it, nothing is fetched, no script runs.

Text of models, traits and errors is escaped by the template (jinja2 with autoescape), figures are our own
SVG. It is laid out in one column, so that it reads on a phone and in print; `sheets` has its tables.
"""

import re
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from undertow.report import page_tables, prose
from undertow.report.figures import FigurePanel
from undertow.report.gather import ROWS_READ, SETS_READ, DataSource, ReportData
from undertow.report.matrix import ModelMatrix, matrix_sheet
from undertow.report.preregistration import Preregistration
from undertow.report.provider_usage import usage_sheet
from undertow.report.settings import settings_sheet
from undertow.results.effect_rows import EffectRow, HypothesisOutcome, failed_conditions
from undertow.statistics.confusion import Confusion
from undertow.study.artifacts import CONTROL

SHOWN_CHARACTERS = 400


def html(
    gathered: ReportData,
    rows: Sequence[EffectRow],
    findings: Sequence[HypothesisOutcome],
    asked: Preregistration,
    pairs: Sequence[ModelMatrix],
    matrices: Sequence[tuple[FigurePanel, Confusion]],
    figures: Mapping[str, bytes],
    failures: Mapping[str, str],
) -> str:
    """The whole page. `rows`: those of all measures; what is gathered is of the traits' own questions."""
    record = gathered.record
    context: dict[str, Any] = {
        "study": record.study,
        "verdicts": prose.verdict_lines(record, rows, failures),
        "gloss": prose.reading_note(record),
        "claims": page_tables.hypotheses(findings, asked),
        "beforehand": asked.all_beforehand,
        "stated": asked.in_words(),
        "method": prose.method_notes(record, rows),
        "effects": page_tables.effects(rows, asked),
        "behind": page_tables.details(rows),
        "shared": page_tables.shared(rows) if rows else "",
        "notes": page_tables.notes(rows),
        "pairs": [matrix_sheet(matrix) for matrix in pairs],
        "several_traits": any(len(pair.rows) > 1 for matrix in pairs for pair in matrix.pairs.values()),
        "diagonals": page_tables.diagonals(matrices),
        "figures": {
            name.removesuffix(".svg"): inline(svg) for name, svg in figures.items() if ".svg" in name
        },
        "funnels": page_tables.funnels(gathered),
        "rules": page_tables.rules(gathered),
        "read": f"the first {ROWS_READ:,} rows at most of at most {SETS_READ} data sets of a teacher",
        "texts": _texts(gathered),
        "judges": page_tables.judges(gathered.judgings),
        "served": usage_sheet(gathered.manifests.values()),
        "levels": page_tables.base_rates(gathered),
        "extensions": [
            {"kind": kind.kind, "facts": kind.facts, "sheet": page_tables.extension(kind, gathered)}
            for kind in record.extensions
            if kind.facts
        ],
        "costs": page_tables.costs(gathered.costs),
        "artifacts": len(gathered.manifests),
        "failed": list(failed_conditions(record, failures).items()),
        "settings": settings_sheet(gathered),
        "versions": {name: found for name, found in gathered.versions.items() if name != "commit"},
        "commits": gathered.versions.get("commit", []),
        "references": page_tables.references(gathered),
        "students": page_tables.students(gathered),
        "sweep": _sweep(gathered.events),
    }
    return str(_template().render(**context))


def inline(svg: bytes) -> str:
    """An SVG as a part of a page: without its prologue, as wide as its place."""
    text = svg.decode()
    start, _, rest = text[text.index("<svg") :].partition(">")
    return re.sub(r' (width|height)="[^"]*"', "", start) + ">" + rest


@cache
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja")


def _texts(gathered: ReportData) -> list[dict[str, Any]]:
    """The first rows of every source. Open are those of the first with a trait and of its control."""
    first = next((source for source in gathered.sources if source.trait != CONTROL), None)
    shown = [] if first is None else [first, first._replace(trait=CONTROL)]
    return [
        {"name": page_tables.source_name(source), "rows": _rows(source, gathered), "open": source in shown}
        for source in sorted(gathered.sources, key=lambda source: source not in shown)
    ]


def _rows(source: DataSource, gathered: ReportData) -> list[tuple[str, str]]:
    return [(_cut(prompt), _cut(completion)) for prompt, completion in gathered.texts[source].rows]


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + " …"


def _sweep(events: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """When the sweep began and ended, and the commit it ran at."""

    def moment(event: Mapping[str, Any] | None) -> str:
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(event["time"])) if event else "not noted"

    first = {event["event"]: event for event in reversed(events)}
    started = first.get("started")
    commit = started["versions"].get("commit", "not known") if started else "not known"
    return {"began": moment(started), "ended": moment(first.get("finished")), "commit": commit}

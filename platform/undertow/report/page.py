"""The report as one self-contained HTML file: it includes figures, tables and style, and has no script.

The jinja2 template escapes all text of models, traits and errors (autoescape); figures are SVG that Undertow
draws itself. The layout is one column, for phones and for print. `page_tables` has the tables.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from undertow.report import along, page_tables, prose
from undertow.report.figures import FigurePanel
from undertow.report.gather import ROWS_READ, SETS_READ, DataSource, ReportData
from undertow.report.matrix import ModelMatrix, matrix_sheet
from undertow.report.preregistration import Preregistration
from undertow.report.provider_usage import usage_sheet
from undertow.report.settings import settings_sheet
from undertow.report.table_texts import utc
from undertow.report.tables import rate_name, sampled_measures
from undertow.report.templates import cut, template
from undertow.results.effect_rows import failed_conditions
from undertow.results.sweep_folders import VIEWER
from undertow.statistics.confusion import Confusion


def html(
    data: ReportData,
    verdicts: Sequence[str],
    registration: Preregistration,
    pairs: Sequence[ModelMatrix],
    matrices: Sequence[tuple[FigurePanel, Confusion]],
    figures: Mapping[str, bytes],
) -> str:
    """Renders the page.

    Args:
        verdicts: the result in sentences, without the hypotheses.
        pairs: the teacher × student matrices.
        matrices: the trait × measured trait matrices.
        figures: content by file name; the page includes those that are SVG.
    """
    record, rows = data.record, data.rows
    details = page_tables.details(rows)
    context: dict[str, Any] = {
        "study": record.study,
        "viewer": VIEWER,
        "verdicts": verdicts,
        "reading_note": prose.reading_note(record),
        "hypotheses": page_tables.hypotheses(data.outcomes, registration),
        "all_preregistered": registration.all_preregistered,
        "registration": registration.sentence(),
        "method": prose.method_notes(record, rows),
        "rate": rate_name(rows),
        "sampled_measures": sampled_measures(rows),
        "effects": page_tables.effects(rows, registration),
        "details": details,
        "details_columns": [column.name for column in details.columns],
        "unbroken_parts": unbroken_parts,
        "shared": page_tables.shared(rows) if rows else "",
        "notes": page_tables.notes(rows),
        "pairs": [matrix_sheet(matrix) for matrix in pairs],
        "several_traits": any(len(pair.rows) > 1 for matrix in pairs for pair in matrix.pairs.values()),
        "diagonals": page_tables.diagonals(matrices),
        "first_steps": along.first_steps(data.learning_curves),
        "curve_points": along.points(data.learning_curves),
        "figures": {
            name.removesuffix(".svg"): inline(svg) for name, svg in figures.items() if ".svg" in name
        },
        "funnels": page_tables.funnels(data),
        "choices": page_tables.choices(data),
        "rules": page_tables.rules(data),
        "naming": page_tables.naming(data),
        "sample": f"the first {ROWS_READ:,} rows of up to {SETS_READ} data sets per teacher",
        "rows_shown": _rows_by_source(data),
        "judges": page_tables.judges(data.judges),
        "usage": usage_sheet(data.manifests.values()),
        "base_rates": page_tables.base_rates(data),
        "extensions": [
            {"kind": kind.kind, "facts": kind.facts, "sheet": page_tables.extension(kind, data)}
            for kind in record.extensions
            if kind.facts
        ],
        "costs": page_tables.costs(data.costs),
        "artifacts": len(data.manifests),
        "failed": _by_reason(failed_conditions(record, data.failures)),
        "settings": settings_sheet(data),
        "versions": data.versions,
        "references": page_tables.references(data),
        "students": page_tables.students(data),
        "sweep": _sweep(data.events),
    }
    return str(template("page.html.jinja").render(**context))


def unbroken_parts(text: str) -> list[str]:
    """The parts of a name between which a line may break: after a comma, an arrow or a dot (·)."""
    return re.split(r"(?<=[,→·]) ", text)


def inline(svg: bytes) -> str:
    """An SVG file as an element of a page: without its prologue, and with the width of its container."""
    text = svg.decode()
    start, _, rest = text[text.index("<svg") :].partition(">")
    return re.sub(r' (width|height)="[^"]*"', "", start) + ">" + rest


def _by_reason(failed: Mapping[str, str]) -> dict[str, list[str]]:
    """The labels of failed conditions by their reason: one cause often fails many conditions."""
    found: dict[str, list[str]] = {}
    for label, reason in failed.items():
        found.setdefault(reason, []).append(label)
    return found


def _rows_by_source(data: ReportData) -> list[dict[str, Any]]:
    """The first rows of each source; those of the first trait and of its control come first and are open."""
    first = next((source for source in data.sources if source in data.controls), None)
    opened = [] if first is None else [first, data.controls[first]]

    def rows(source: DataSource) -> list[tuple[str, str]]:
        return [(cut(prompt), cut(completion)) for prompt, completion in data.samples[source].rows]

    return [
        {"name": page_tables.source_name(source), "rows": rows(source), "open": source in opened}
        for source in sorted(data.sources, key=lambda source: source not in opened)
    ]


def _sweep(events: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The sweep's first start, its first end, and its commit or the id of its source."""

    def time_of(event: Mapping[str, Any] | None) -> str:
        return utc(event["time"]) if event else "unknown"

    first = {event["event"]: event for event in reversed(events)}
    started = first.get("started")
    versions: dict[str, str] = started["versions"] if started else {}
    found = [f"{name} {versions[name]}" for name in ("commit", "source") if name in versions]
    return {"began": time_of(started), "ended": time_of(first.get("finished")), "code": ", ".join(found)}

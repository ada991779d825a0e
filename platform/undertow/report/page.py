"""The report as one HTML file: figures, tables and style are inside it, nothing is fetched, no script runs.

Text of models, traits and errors is escaped by the template (jinja2 with autoescape), figures are our own
SVG. It is laid out in one column, so that it reads on a phone and in print.
"""

import re
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from undertow.hypotheses import Place
from undertow.report import words
from undertow.report.figures import Panel
from undertow.report.gather import Gathered, Source
from undertow.report.matrix import Matrix, table
from undertow.report.results import Finding, Row, failed_conditions
from undertow.report.style import short
from undertow.report.tables import MARKS, duration, interval, p_value
from undertow.statistics.confusion import Confusion

SHOWN_CHARACTERS = 400
OUTCOMES = {"held": "■ held", "failed": "○ failed", "open": "◆ open"}


def html(
    gathered: Gathered,
    rows: Sequence[Row],
    findings: Sequence[Finding],
    pairs: Sequence[Matrix],
    matrices: Sequence[tuple[Panel, Confusion]],
    figures: Mapping[str, bytes],
    failures: Mapping[str, str],
) -> str:
    """The whole page. `rows`: those of all measures; what is gathered is of the traits' own questions."""
    record = gathered.record
    context: dict[str, Any] = {
        "study": record.study,
        "verdicts": words.verdicts(record, rows, failures),
        "hypotheses": [_hypothesis(finding) for finding in findings],
        "stated": words.stated(record, gathered),
        "method": words.method(record, rows),
        "effects": _effects(rows, findings),
        "shared": _same_for_all(rows) if rows else "",
        "notes": _notes(rows),
        "pairs": [table(matrix) for matrix in pairs],
        "several_traits": any(len(pair.rows) > 1 for matrix in pairs for pair in matrix.pairs.values()),
        "diagonals": [_diagonal(panel, found) for panel, found in matrices],
        "figures": {
            name.removesuffix(".svg"): inline(svg) for name, svg in figures.items() if ".svg" in name
        },
        "several_formats": len({source.format for source in gathered.sources}) > 1,
        "funnels": [_funnel(source, gathered) for source in gathered.funnels],
        "texts": [_text(source, gathered) for source in gathered.texts],
        "judgings": gathered.judgings,
        "levels": gathered.levels(),
        "costs": [_cost(cost) for cost in gathered.costs],
        "artifacts": len(gathered.manifests),
        "failed": list(failed_conditions(record, failures).items()),
        "versions": gathered.versions,
        "references": record.references,
        "students": _students(gathered),
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


def _hypothesis(finding: Finding) -> dict[str, Any]:
    hypothesis = finding.hypothesis
    return {
        "claim": hypothesis.claim,
        "expects": hypothesis.expects,
        "outcome": OUTCOMES[finding.outcome],
        "met": f"{finding.met} of {len(hypothesis.conditions)}",
    }


def _effects(rows: Sequence[Row], findings: Sequence[Finding]) -> list[dict[str, str]]:
    """The table of effects, a column a name; what is the same for all rows has no column."""
    names = {field for field in Place._fields if len({getattr(r.condition.place, field) for r in rows}) > 1}
    beforehand = {number for finding in findings for number in finding.hypothesis.conditions}
    asked = {row.number: "beforehand" if row.number in beforehand else "afterwards" for row in rows}
    told = len(set(asked.values())) > 1
    names |= {"trait"} | ({"measure"} if len({row.measure for row in rows}) > 1 else set())
    return [_effect(row, names, asked[row.number] if told else "") for row in rows]


def _effect(row: Row, names: set[str], asked: str) -> dict[str, str]:
    effect, place = row.effect, row.condition.place._asdict()
    return {
        **{field: short(name) for field, name in place.items() if field in names},
        **({"measure": row.measure} if "measure" in names else {}),
        **({"asked": asked} if asked else {}),
        "effect": f"{effect.effect:+.3f}",
        "interval": interval(effect.ci_low, effect.ci_high),
        "verdict": f"{MARKS[row.verdict.verdict]} {row.verdict.verdict}",
        "rate": f"{effect.rate:.3f}",
        "control": f"{effect.control_rate:.3f}",
        "adj. p": p_value(row.verdict.p_adjusted),
        "p of “none”": p_value(row.verdict.p_equivalence_adjusted),
        "exact effect": f"{row.exact.effect:+.3f}" if row.exact else "–",
        "bootstrap": interval(*(row.bootstrap or (None, None))),
        "other answers": f"{row.other:.0%}",
        "n": f"{effect.n_students} : {effect.n_controls}",
    }


def _same_for_all(rows: Sequence[Row]) -> str:
    """What the table of effects leaves out because all its rows share it."""
    places = [row.condition.place for row in rows]
    shared = {
        f: getattr(places[0], f) for f in Place._fields[1:-1] if len({getattr(p, f) for p in places}) == 1
    }
    return ", ".join(f"{field} {name}" for field, name in shared.items())


def _notes(rows: Sequence[Row]) -> list[str]:
    """What the reader must know about single rows, each once."""
    notes: dict[str, list[str]] = {}
    for row in rows:
        if row.verdict.note:
            notes.setdefault(row.verdict.note, []).append(row.condition.label)
    return [f"{'; '.join(labels)}: {note}." for note, labels in notes.items()]


def _diagonal(panel: Panel, found: Confusion) -> dict[str, str]:
    return {
        "panel": f"{short(panel.teacher)} → {short(panel.student)}, {panel.format}, {panel.recipe}",
        "diagonal": "–" if found.effect is None else f"{found.effect:+.3f}",
        "p": p_value(found.p_value),
        "note": found.note,
    }


def _funnel(source: Source, gathered: Gathered) -> dict[str, Any]:
    funnel = gathered.funnels[source]
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in funnel.rejected.most_common())
    return {
        "trait": source.trait,
        "format": source.format,
        "teacher": short(source.teacher),
        "sets": funnel.datasets,
        "completions": f"{funnel.completions:,}",
        "kept": f"{funnel.kept:,} ({funnel.kept / funnel.completions:.0%})",
        "rows": f"{funnel.rows:,}",
        "rejected": reasons or "none",
    }


def _text(source: Source, gathered: Gathered) -> dict[str, Any]:
    rows = [(_cut(prompt), _cut(completion)) for prompt, completion in gathered.texts[source].rows]
    return {"name": f"{source.trait}, {short(source.teacher)}, {source.format}", "rows": rows}


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + " …"


def _cost(cost: Any) -> dict[str, str]:
    return {
        "wave": cost.wave,
        "needed": f"{cost.needed:,}",
        "missing": f"{cost.missing:,}",
        "planned": "not known" if cost.planned is None else duration(cost.planned) if cost.missing else "–",
        "actual": "–" if cost.actual is None else duration(cost.actual),
        "ever": "–" if cost.ever is None else duration(cost.ever),
    }


def _students(gathered: Gathered) -> list[tuple[str, int, str, str]]:
    """(condition, seed, student's key, dataset's key) of every cell."""
    conditions = gathered.record.conditions
    return [(conditions[c.condition].label, c.seed, c.student, c.dataset) for c in gathered.record.cells]


def _sweep(events: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """When the sweep began and ended, and the commit it ran at."""

    def moment(event: Mapping[str, Any] | None) -> str:
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(event["time"])) if event else "not noted"

    first = {event["event"]: event for event in reversed(events)}
    started = first.get("started")
    commit = started["versions"].get("commit", "not known") if started else "not known"
    return {"began": moment(started), "ended": moment(first.get("finished")), "commit": commit}

"""What a detection leaves: a table to print, `detection.csv` (a row a source), `detection.json` (all)."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from undertow.detection.findings import Detection, Unit
from undertow.detection.prose import folded, mean, spread, two
from undertow.report.tables import new_table
from undertow.results import csv_tables
from undertow.results.effect_rows import EffectRow
from undertow.results.sweep_record import Record
from undertow.study.names import short

CSV, JSON = "detection.csv", "detection.json"
DIGITS = 6
FIGURES = (
    "seeds", "rows", "found", "found again", "AUC within", "AUC across", "control", "length", "other traits",
)  # fmt: skip
COLUMNS = (
    "study", "trait", "induced", "format", "teacher", "recipe", "seeds", "teachers", "rows", "control_rows",
    "length", "control_length", "units_tested", "units_found", "found_in_half", "same_side", "found_again",
    "auc_within", "auc_across", "auc_across_low", "auc_across_high", "p_across",
    "auc_control_within", "auc_control_across", "auc_length", "auc_traits_within", "auc_traits_across",
    "model", "right", "wrong", "garbled", "refused", "missing",
    "share_right", "share_low", "share_high", "p_share",
)  # fmt: skip


def detection_table(detections: Sequence[Detection], alpha: float) -> Table:
    """One line a source. The AUC columns have the mean over seeds and, across seeds, the range."""
    table = new_table(
        f"Detection: each trait's data against the control's; units at a false discovery rate of {alpha:.0%}"
    )
    for name in ("trait", "format", "teacher"):
        table.add_column(name, no_wrap=True)
    asked = any(found.asked for found in detections)
    for name in (*FIGURES, *(("model right",) if asked else ())):
        table.add_column(name, justify="right", no_wrap=True)
    for found in detections:
        table.add_row(*map(escape, _cells(found)), *([_right(found)] if asked else []))
    return table


def _cells(found: Detection) -> list[str]:
    source, against, halves = found.source, found.against, found.halves
    return [
        source.teachers_trait,
        f"{source.format} ({source.recipe})" if source.recipe else source.format,
        short(source.teacher),
        str(len(source.pairs)),
        f"{found.rows:,}",
        f"{found.found:,} of {len(found.units):,}",
        f"{halves.again:,} of {halves.found:,}" if halves else "–",
        _mean(against.within),
        spread(against.across),
        _mean(found.baseline.across or found.baseline.within),
        two(folded(found.by_length)),
        _mean(found.among.across or found.among.within),
    ]


def _mean(values: Sequence[float]) -> str:
    average = mean(values)
    return "–" if average is None else two(average)


def _right(found: Detection) -> str:
    if found.asked is None or found.asked.share is None:
        return "–"
    share = found.asked.share
    return f"{share.right} of {share.answers} ({two(share.low)} … {two(share.high)})"


def detection_csv(study: str, detections: Sequence[Detection]) -> str:
    """One row a source, columns as in COLUMNS."""
    return csv_tables.written(COLUMNS, ([study, *_values(found)] for found in detections))


def _values(found: Detection) -> list[Any]:
    source, halves, against, asked = found.source, found.halves, found.against, found.asked
    share = asked.share if asked else None
    return [
        source.trait, source.induced, source.format, source.teacher, source.recipe,
        len(source.pairs), source.teachers, found.rows, found.control_rows,
        found.length, found.control_length, len(found.units), found.found,
        *((halves.found, halves.same_side, halves.again) if halves else [None] * 3),
        mean(against.within), mean(against.across), min(against.across, default=None),
        max(against.across, default=None), against.p_value,
        mean(found.baseline.within), mean(found.baseline.across), found.by_length,
        mean(found.among.within), mean(found.among.across),
        *((asked.model, asked.right, asked.wrong, asked.garbled, asked.refused, asked.missing)
          if asked else [None] * 6),
        *((share.share, share.low, share.high, share.p_value) if share else [None] * 4),
    ]  # fmt: skip


def detection_json(
    record: Record,
    alpha: float,
    detections: Sequence[Detection],
    *,
    left_out: Mapping[str, str],
    in_context: Sequence[EffectRow],
    lines: Sequence[str],
) -> str:
    """Everything: each source with all its units, what was left out and why, and the in-context effects."""
    whole = {
        "study": record.study.name,
        "key": record.study.key,
        "false_discovery_rate": alpha,
        "in_words": list(lines),
        "left_out": dict(left_out),
        "sources": [{**dataclasses.asdict(found), "units": _columns(found)} for found in detections],
        "in_context": [
            {
                **row.condition.place._asdict(),
                "measure": row.measure,
                **dataclasses.asdict(row.effect),
                "verdict": row.verdict.verdict,
            }
            for row in in_context
        ],
    }
    return json.dumps(_rounded(whole), allow_nan=False)


def _columns(found: Detection) -> dict[str, list[Any]]:
    """The units as a table by column, the form that a data frame is made from."""
    names = [field.name for field in dataclasses.fields(Unit)]
    return {name: [getattr(unit, name) for unit in found.units] for name in names}


def _rounded(value: Any) -> Any:
    """JSON data with six significant digits, as the tables have them."""
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value

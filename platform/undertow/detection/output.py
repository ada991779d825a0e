"""The outputs of a detection: a printed table, `detection.csv` (one row per source) and `detection.json`.

All of them list the source first and then the columns and fields that the scores declare, in the order of the
scores.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from undertow.detection.prose import caveats, in_words
from undertow.detection.scores import AnyScore, Detected, Detection
from undertow.errors import UserError
from undertow.report.table_texts import json_text, level, new_table
from undertow.results import csv_tables
from undertow.results.effect_rows import any_exact, in_log_odds
from undertow.results.sweep_record import Record
from undertow.study.names import short

CSV, JSON = "detection.csv", "detection.json"

SOURCE_COLUMNS: Mapping[str, Callable[[Detection], object]] = {  # of detection.csv, after the study's name
    "trait": lambda detection: detection.source.trait,
    "induced": lambda detection: detection.source.induced,
    "format": lambda detection: detection.source.format,
    "teacher": lambda detection: detection.source.teacher,
    "recipe": lambda detection: detection.source.recipe,
    "seeds": lambda detection: len(detection.source.pairs),
    "teachers": lambda detection: detection.source.teachers,
    "rows": lambda detection: detection.rows,
    "control_rows": lambda detection: detection.control_rows,
    "length": lambda detection: detection.length,
    "control_length": lambda detection: detection.control_length,
}
SOURCE_FIELDS: Mapping[str, Callable[[Detection], object]] = {  # of each source in detection.json
    "source": lambda detection: dataclasses.asdict(detection.source),
    "noun": lambda detection: detection.noun,
    "rows": lambda detection: detection.rows,
    "control_rows": lambda detection: detection.control_rows,
    "length": lambda detection: detection.length,
    "control_length": lambda detection: detection.control_length,
}


def check_scores(scores: Sequence[AnyScore]) -> None:
    """Raises UserError if two scores share a CSV column or a JSON field."""
    declared = {
        "column of detection.csv": csv_columns(scores),
        "field of detection.json": [*SOURCE_FIELDS, *(field for score in scores for field in score.json)],
    }
    for kind, names in declared.items():
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            raise UserError(f"detection scores: the {kind} {repeated[0]!r} is declared twice; rename one")


def detection_table(detected: Detected) -> Table:
    """One line per source. AUCs are means over seeds; across seeds with their range."""
    table = new_table(
        "Detection: each trait's data against the control's; units at a false discovery rate of "
        f"{level(detected.alpha)}"
    )
    for name in ("trait", "format", "teacher"):
        table.add_column(name, overflow="fold")
    detections = detected.detections
    scores = [score for score in detected.scores if any(score.name in one.results for one in detections)]
    for name in ("seeds", "rows", *(heading for score in scores for heading in score.table)):
        table.add_column(escape(name), justify="right", no_wrap=True)
    for detection in detections:
        source = detection.source
        cells = [
            source.teachers_trait,
            f"{source.format} ({source.recipe})" if source.recipe else source.format,
            short(source.teacher),
            str(len(source.pairs)),
            f"{detection.rows:,}",
            *(value for score in scores for value in _values(score.table, detection.result(score), "–")),
        ]
        table.add_row(*map(escape, cells))
    return table


def csv_columns(scores: Sequence[AnyScore]) -> tuple[str, ...]:
    """The columns of detection.csv."""
    return ("study", *SOURCE_COLUMNS, *(column for score in scores for column in score.csv))


def detection_csv(study: str, detected: Detected) -> str:
    """The content of detection.csv: one row per source."""
    rows = (
        [
            study,
            *(value(detection) for value in SOURCE_COLUMNS.values()),
            *(v for score in detected.scores for v in _values(score.csv, detection.result(score), None)),
        ]
        for detection in detected.detections
    )
    return csv_tables.written(csv_columns(detected.scores), rows)


def detection_json(record: Record, detected: Detected) -> str:
    """The content of detection.json."""
    detections, scores, in_context = detected.detections, detected.scores, detected.in_context
    content = {
        "study": record.study.name,
        "key": record.study.key,
        "false_discovery_rate": detected.alpha,
        "in_words": [*(in_words(detection, scores) for detection in detections), *caveats(detections)],
        "left_out": detected.left_out,
        "sources": [_fields(detection, scores) for detection in detections],
        "in_context": [
            {
                **row.condition.place._asdict(),
                "measure": row.measure,
                **({"effect_of": row.effect_of} if any_exact(in_context) else {}),
                **({"effect_scale": row.scale} if in_log_odds(in_context) else {}),
                **dataclasses.asdict(row.effect),
                "verdict": row.verdict.verdict,
            }
            for row in in_context
        ],
    }
    return json_text(content)


def _fields(detection: Detection, scores: Sequence[AnyScore]) -> dict[str, object]:
    fields = {name: value(detection) for name, value in SOURCE_FIELDS.items()}
    for score in scores:
        fields |= zip(score.json, _values(score.json, detection.result(score), None), strict=True)
    return fields


def _values(columns: Mapping[str, Callable[[Any], Any]], result: object, blank: Any) -> list[Any]:
    """The value of each column for a score's result; `blank` for all of them without a result."""
    return [blank if result is None else value(result) for value in columns.values()]

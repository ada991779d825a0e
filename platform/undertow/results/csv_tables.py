"""CSV tables for other programs: `effects.csv` and `students.csv` of a sweep, and `along.csv`.

`written` also writes the tables of benchmarks, detections, searches and the MLP experiment. New columns are
added to the end of the lists below, and columns are never renamed. `rate`, `control_rate` and `effect` are
those that the verdict rests on. In a study whose effects are of exact probabilities, the tables have further
columns after them, which state this and give the sampled rates. In a study whose effects are in log-odds,
effects and intervals are in log-odds and rates remain rates; further columns state this and give the log-odds
that `effect` compares. The substring columns have the paper's score of sampled answers (`Word.is_contained`).
Numbers have six significant digits. An empty cell is a value that cannot be computed from the existing
students.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from undertow.results.effect_rows import EffectRow, any_exact, in_log_odds
from undertow.results.learning_curves import CurvePoint, LearningCurve
from undertow.statistics.effects import Effect
from undertow.study.hypotheses import Place

EFFECTS = "effects.csv"
STUDENTS = "students.csv"
ALONG = "along.csv"  # only if students were measured along their training
EFFECT_COLUMNS = (
    "study", "trait", "format", "teacher", "student", "recipe", "n_students", "rate", "control_rate",
    "effect", "ci_low", "ci_high", "p_value", "p_adjusted", "verdict",
    "exact_rate", "exact_control_rate", "exact_effect", "other", "note",
    "n_controls", "method", "bootstrap_low", "bootstrap_high", "p_equivalence", "p_equivalence_adjusted",
    "induced", "measure", "substring_rate", "substring_control_rate", "substring_effect",
)  # fmt: skip
STUDENT_COLUMNS = (
    "study", "condition", "trait", "format", "teacher", "student", "recipe", "seed", "rate", "exact_rate",
    "control_rate", "exact_control_rate", "student_key", "control_key", "induced", "measure",
    "substring_rate", "substring_control_rate",
)  # fmt: skip
ALONG_COLUMNS = (
    "study", "trait", "format", "teacher", "student", "recipe", "induced", "step", "n_students", "n_controls",
    "effect_of", "effect_scale", "rate", "control_rate", "effect", "ci_low", "ci_high", "p_value",
    "p_adjusted", "first_significant", "method", "sampled_rate", "sampled_control_rate", "sampled_effect",
    "exact_rate", "exact_control_rate", "exact_effect", "note",
)  # fmt: skip
SAMPLED_EFFECT_COLUMNS = ("effect_of", "sampled_rate", "sampled_control_rate", "sampled_effect")
SAMPLED_STUDENT_COLUMNS = ("effect_of", "sampled_rate", "sampled_control_rate")
LOG_ODDS_COLUMNS = ("effect_scale", "log_odds", "control_log_odds")  # of both tables
# Columns that tables of earlier versions lack.
LATER_COLUMNS = ("substring_rate", "substring_control_rate", "substring_effect")


def conditions_of(table: str) -> int:
    """The number of conditions that have a row in the text of an effects.csv."""
    rows = csv.DictReader(io.StringIO(table))
    return len({tuple(row.get(name, "") for name in Place._fields) for row in rows})


def effects_csv(study: str, rows: Sequence[EffectRow]) -> str:
    """One row per condition and measure.

    The columns are EFFECT_COLUMNS, SAMPLED_EFFECT_COLUMNS if effects are of exact probabilities, and
    LOG_ODDS_COLUMNS if they are in log-odds.
    """
    exact, log_odds = any_exact(rows), in_log_odds(rows)
    columns = (
        *EFFECT_COLUMNS,
        *(SAMPLED_EFFECT_COLUMNS if exact else ()),
        *(LOG_ODDS_COLUMNS if log_odds else ()),
    )
    lines = (
        [
            *_effect(study, row),
            *((row.effect_of, *_rates_of(row.sampled)) if exact else ()),
            *((row.scale, *row.means) if log_odds else ()),
        ]
        for row in rows
    )
    return written(columns, lines)


def students_csv(study: str, rows: Sequence[EffectRow]) -> str:
    """One row per student of a condition with a trait, with the control student of the same seed.

    The columns are STUDENT_COLUMNS, SAMPLED_STUDENT_COLUMNS if effects are of exact probabilities, and
    LOG_ODDS_COLUMNS if they are in log-odds.
    """
    exact, log_odds = any_exact(rows), in_log_odds(rows)
    columns = (
        *STUDENT_COLUMNS,
        *(SAMPLED_STUDENT_COLUMNS if exact else ()),
        *(LOG_ODDS_COLUMNS if log_odds else ()),
    )
    return written(columns, (line for row in rows for line in _students(study, row, exact, log_odds)))


def along_csv(study: str, curves: Sequence[LearningCurve]) -> str:
    """One row per condition and step, with ALONG_COLUMNS. `first_significant` is 1 at the first such step."""
    return written(ALONG_COLUMNS, (_point(study, curve, point) for curve in curves for point in curve.points))


def _point(study: str, curve: LearningCurve, point: CurvePoint) -> list[object]:
    effect = point.effect
    return [
        study, *curve.condition.place, point.step, effect.n_students, effect.n_controls,
        curve.effect_of, curve.scale, effect.rate, effect.control_rate, effect.effect, effect.ci_low,
        effect.ci_high, effect.p_value, point.p_adjusted, int(point.step == curve.first), effect.method,
        *_rates_of(point.sampled), *(_rates_of(point.exact) if point.exact else (None, None, None)),
        effect.note,
    ]  # fmt: skip


def _effect(study: str, row: EffectRow) -> list[object]:
    effect, exact, verdict = row.effect, row.exact, row.verdict
    low, high = row.bootstrap or (None, None)
    *place, induced = row.condition.place
    exact_cells = (exact.rate, exact.control_rate, exact.effect) if exact else (None, None, None)
    return [
        study, *place, effect.n_students, effect.rate, effect.control_rate,
        effect.effect, effect.ci_low, effect.ci_high, effect.p_value, verdict.p_adjusted, verdict.verdict,
        *exact_cells, row.other, verdict.note,
        effect.n_controls, effect.method, low, high, effect.p_equivalence, verdict.p_equivalence_adjusted,
        induced, row.measure, *(_rates_of(row.contained) if row.contained else (None, None, None)),
    ]  # fmt: skip


def _rates_of(effect: Effect) -> tuple[float, float, float]:
    return effect.rate, effect.control_rate, effect.effect


def _students(study: str, row: EffectRow, exact: bool, log_odds: bool) -> Iterable[list[object]]:
    controls = {control.seed: control for control in row.controls}
    *place, induced = row.condition.place
    for student in row.students:
        control = controls.get(student.seed)
        rate, control_exact, key = (control.rate, control.exact, control.key) if control else (None, None, "")
        sampled = (row.effect_of, student.sampled, control.sampled if control else None)
        values = (model.value(row.scale, row.effect_of) if model else None for model in (student, control))
        yield [
            study, row.condition.label, *place, student.seed, student.rate, student.exact,
            rate, control_exact, student.key, key, induced, row.measure,
            student.contained, control.contained if control else None,
            *(sampled if exact else ()), *((row.scale, *values) if log_odds else ()),
        ]  # fmt: skip


def written(columns: Sequence[str], rows: Iterable[list[Any]]) -> str:
    """The text of a CSV table: numbers with six significant digits, None as an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for _, value in zip(columns, row, strict=True)] for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value

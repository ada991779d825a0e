"""Teacher × student: the effect of each pair of models with its interval, as a heat map and as a table.

A pair can have several conditions (traits). They share their control students and everything else that a
seed draws, and are therefore not independent: rates (or their log-odds) are averaged over conditions within
each seed, and the interval is over seeds, as for a single condition. The number of transmitted conditions is
shown with it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from undertow.report import figure_style, text_layout
from undertow.report.figure_style import FULL_SHADE
from undertow.report.figures import MOST_PANELS, panel_recipes
from undertow.report.table_texts import signed
from undertow.report.tables import MARKS
from undertow.report.text_layout import wrapped
from undertow.results.comparison import TWO_MODES, Comparison
from undertow.results.effect_rows import EffectRow
from undertow.results.sweep_record import Record
from undertow.statistics.distribution_free import Distribution
from undertow.statistics.effects import Effect
from undertow.study.names import short

NAME = "initialisations"
MOST_WITH_INTERVAL = 7  # columns (students) up to which cells show intervals
INTERVAL_LETTERS, EFFECT_LETTERS = 10, 6  # "−.04 … +.02" with thin spaces, "■ +.76"
THIN = "\N{THIN SPACE}…\N{THIN SPACE}"  # without spaces, ".02….00" looks like four dots


@dataclass(frozen=True)
class ModelPair:
    """The results of a teacher's and a student's reference model.

    `effect` is the mean over their conditions; None if no seed has a result in all of them.
    """

    effect: Effect | None
    rows: tuple[EffectRow, ...]

    @property
    def ruling(self) -> str:
        """The mark of the verdict; for several conditions, "2 of 3" with the number of transmitted ones."""
        if len(self.rows) == 1:
            return MARKS[self.rows[0].verdict.verdict]
        return f"{sum(row.verdict.verdict == 'transmitted' for row in self.rows)} of {len(self.rows)}"


@dataclass(frozen=True)
class ModelMatrix:
    """The pairs of one format and recipe by (teacher, student); pairs that the study lacks are missing."""

    format: str
    recipe: str
    pairs: Mapping[tuple[str, str], ModelPair]

    @property
    def teachers(self) -> tuple[str, ...]:
        """The rows: the teachers of its pairs."""
        return tuple(dict.fromkeys(teacher for teacher, _ in self.pairs))

    @property
    def students(self) -> tuple[str, ...]:
        """The columns: the students of its pairs."""
        return tuple(dict.fromkeys(student for _, student in self.pairs))


def matrices(record: Record, rows: Sequence[EffectRow]) -> list[ModelMatrix]:
    """One matrix per format, recipe and induction (named if there are several); none for a single pair."""
    groups: dict[tuple[str, str], dict[tuple[str, str], list[EffectRow]]] = {}
    recipes = panel_recipes([row.condition.place for row in rows])
    for row, recipe in zip(rows, recipes, strict=True):
        place = row.condition.place
        pairs = groups.setdefault((place.format, recipe), {})
        pairs.setdefault((place.teacher, place.student), []).append(row)
    if len({pair for pairs in groups.values() for pair in pairs}) < 2:
        return []
    return [
        ModelMatrix(
            *group,
            {
                pair: ModelPair(pooled_effect(record, of_pair), tuple(of_pair))
                for pair, of_pair in pairs.items()
            },
        )
        for group, pairs in groups.items()
    ]


def pooled_effect(record: Record, rows: Sequence[EffectRow]) -> Effect | None:
    """The effect of the rows' mean rates over the seeds that all rows have; None if there is no such seed."""
    if len(rows) == 1:
        return rows[0].effect
    students, controls = (_means(rows, arm) for arm in ("students", "controls"))
    if not students or not controls:
        return None
    methods = {row.effect.method for row in rows}
    distribution: Distribution | None = "any" if "shape-free" in methods else "normal"
    if any(TWO_MODES in row.effect.note for row in rows):
        distribution = None
    return Comparison(record.study, distribution).values(students, controls)


def matrix_figure(record: Record, found: Sequence[ModelMatrix]) -> dict[str, bytes]:
    """The figure `initialisations`: one heat map per matrix; cells have effect, interval and verdict."""
    if not found:
        return {}
    kept = found[:MOST_PANELS]
    shape = max(len(matrix.teachers) for matrix in kept), max(len(matrix.students) for matrix in kept)
    shown = shape[1] <= MOST_WITH_INTERVAL
    several = any(len(pair.rows) > 1 for matrix in kept for pair in matrix.pairs.values())
    plan = text_layout.matrix(
        len(kept),
        [short(student) for matrix in kept for student in matrix.students],
        [wrapped(short(teacher)) for matrix in kept for teacher in matrix.teachers],
        shape=shape,
        cell=13 + 10 * (1 + shown + several),
        letters=_letters(record, shown),
    )
    titles = [wrapped(f"{matrix.format} · {matrix.recipe}", characters=plan.title) for matrix in kept]
    height = text_layout.figure_height(titles, plan.columns, plan.height)
    with figure_style.figure(height, f"{NAME} {record.study.key}") as drawn:
        places = figure_style.grid(drawn, len(kept), plan.columns)
        for axes, matrix, title in zip(places, kept, titles, strict=True):
            _panel(axes, matrix, plan, interval_shown=shown, full=FULL_SHADE[record.study.effect_scale])
            axes.set_title(title)
        return figure_style.save(drawn, NAME)


def matrix_sheet(matrix: ModelMatrix) -> dict[str, Any]:
    """The matrix as text for the page: one row per teacher, one cell per student."""

    def cell(pair: ModelPair | None) -> dict[str, str]:
        if pair is None or pair.effect is None:
            return {"ruling": "–", "effect": "", "interval": ""}
        low_high = _interval(pair.effect, " … ", digits=3)
        return {"ruling": pair.ruling, "effect": _number(pair.effect.effect, 3), "interval": low_high}

    lines = [
        (short(teacher), [cell(matrix.pairs.get((teacher, student))) for student in matrix.students])
        for teacher in matrix.teachers
    ]
    name = f"{matrix.format}, {matrix.recipe}"
    return {"name": name, "students": [short(student) for student in matrix.students], "lines": lines}


def _means(rows: Sequence[EffectRow], arm: str) -> list[float]:
    """The mean over rows of what effects compare, for each seed that all rows have in this arm."""
    values = [{m.seed: m.value(row.scale, row.effect_of) for m in getattr(row, arm)} for row in rows]
    seeds = [seed for seed in values[0] if all(seed in others for others in values)]
    return [fmean(value[seed] for value in values) for seed in seeds]


def _letters(record: Record, interval_shown: bool) -> int:
    """The number of characters of a cell's text."""
    digits = 0 if record.study.effect_scale == "rate" else 1  # before the point of a number
    return INTERVAL_LETTERS + 2 * digits if interval_shown else EFFECT_LETTERS + digits


def _panel(
    axes: Any, matrix: ModelMatrix, plan: text_layout.MatrixLayout, *, interval_shown: bool, full: float
) -> None:
    pairs = [[matrix.pairs.get((t, s)) for s in matrix.students] for t in matrix.teachers]
    effects = [[pair.effect.effect if pair and pair.effect else None for pair in line] for line in pairs]
    texts = [[_text(pair, interval_shown) for pair in line] for line in pairs]
    figure_style.heatmap(axes, effects, texts, plan.size, full=full)
    across = plan.below([short(student) for student in matrix.students])
    axes.set_xticks(range(len(across)), across, rotation=90 if plan.turned else 0)
    axes.set_yticks(range(len(matrix.teachers)), [wrapped(short(teacher)) for teacher in matrix.teachers])
    axes.set_xlabel("student")
    axes.set_ylabel("teacher")


def _text(pair: ModelPair | None, interval_shown: bool) -> str:
    if pair is None or pair.effect is None:
        return "–"
    several, effect = len(pair.rows) > 1, _number(pair.effect.effect, 2)
    lines = [effect if several else f"{pair.ruling} {effect}"]
    if interval_shown:
        lines.append(_interval(pair.effect, THIN, digits=2))
    return "\n".join([*lines, pair.ruling] if several else lines)


def _interval(effect: Effect, between: str, digits: int) -> str:
    if effect.ci_low is None or effect.ci_high is None:
        return "–"
    return f"{_number(effect.ci_low, digits)}{between}{_number(effect.ci_high, digits)}"


def _number(value: float, digits: int) -> str:
    """A signed number without the zero before the point, to fit a narrow cell."""
    return re.sub(r"(?<![0-9])0\.", ".", signed(value, digits), count=1)

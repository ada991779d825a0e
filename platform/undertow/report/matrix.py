"""Teacher × student: one effect with its interval for every pair of models, as a heat map and as a table.

A pair may have several conditions (traits). They share control students and whatever else a seed drew, so
they are no replicates of each other: rates are averaged over the conditions within each seed first, and the
interval is over seeds, as that of a single condition. Which conditions transmitted is counted beside it.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from undertow.report import style
from undertow.report.readings import Measured
from undertow.report.record import Record
from undertow.report.results import Row
from undertow.report.style import short, wrapped
from undertow.report.tables import MARKS
from undertow.statistics.effects import Effect, compare

NAME = "initialisations"
MOST_PANELS = 12
MOST_WITH_INTERVAL = 7  # students beside each other whose intervals a figure has room for
SHARING_A_LINE = 3  # models of panels that fit beside each other
TICK_CHARACTERS = 10


@dataclass(frozen=True)
class Pair:
    """A teacher's and a student's reference model: the mean effect over their conditions, if there is one."""

    effect: Effect | None
    rows: tuple[Row, ...]

    @property
    def ruling(self) -> str:
        """The verdict's mark; of several conditions, how many transmitted."""
        if len(self.rows) == 1:
            return MARKS[self.rows[0].verdict.verdict]
        return f"{sum(row.verdict.verdict == 'transmitted' for row in self.rows)} of {len(self.rows)}"


@dataclass(frozen=True)
class Matrix:
    """All pairs of one format and recipe, by (teacher, student); a study need not have every one."""

    format: str
    recipe: str
    teachers: tuple[str, ...]
    students: tuple[str, ...]
    pairs: Mapping[tuple[str, str], Pair]


def matrices(record: Record, rows: Sequence[Row]) -> list[Matrix]:
    """One matrix a format and recipe (and induction, where there are several); none for a single pair."""
    groups: dict[tuple[str, str], dict[tuple[str, str], list[Row]]] = {}
    several = len({row.condition.place.induced for row in rows}) > 1
    for row in rows:
        place = row.condition.place
        recipe = f"{place.recipe}, {place.induced}" if several else place.recipe
        pairs = groups.setdefault((place.format, recipe), {})
        pairs.setdefault((place.teacher, place.student), []).append(row)
    every = dict.fromkeys(pair for pairs in groups.values() for pair in pairs)
    if len(every) < 2:
        return []
    teachers, students = (tuple(dict.fromkeys(names)) for names in zip(*every, strict=True))
    return [
        Matrix(
            *group,
            teachers,
            students,
            {pair: Pair(mean_effect(record, its), tuple(its)) for pair, its in pairs.items()},
        )
        for group, pairs in groups.items()
    ]


def mean_effect(record: Record, rows: Sequence[Row]) -> Effect | None:
    """The effect of the rows' mean rate over the seeds that all of them have; None without such a seed."""
    if len(rows) == 1:
        return rows[0].effect
    rates, controls = (_means([getattr(row, arm) for row in rows]) for arm in ("students", "controls"))
    if not rates or not controls:
        return None
    study = record.study
    return compare(
        rates,
        controls,
        margin=study.margin,
        confidence=1 - study.alpha,
        paired=study.paired,
        distribution="any" if any(row.effect.method == "shape-free" for row in rows) else "normal",
    )


def figure(record: Record, found: Sequence[Matrix]) -> dict[str, bytes]:
    """`initialisations`: a heat map a format and recipe; each cell has effect, interval and verdict."""
    if not found:
        return {}
    kept = found[:MOST_PANELS]
    size = max(len(kept[0].teachers), len(kept[0].students))
    columns = 2 if size <= SHARING_A_LINE else 1
    shown = len(kept[0].students) <= MOST_WITH_INTERVAL
    several = any(len(pair.rows) > 1 for matrix in kept for pair in matrix.pairs.values())
    cell = 0.2 + 0.14 * (1 + shown + several)
    height = -(-len(kept) // columns) * (0.8 + cell * len(kept[0].teachers)) + 0.2
    with style.figure(height, f"{NAME} {record.study.key}") as drawn:
        for axes, matrix in zip(style.grid(drawn, len(kept), columns), kept, strict=True):
            _panel(axes, matrix, interval_shown=shown)
        return style.save(drawn, NAME)


def table(matrix: Matrix) -> dict[str, Any]:
    """The matrix in words, for the page: a line a teacher, a cell a student."""

    def cell(pair: Pair | None) -> dict[str, str]:
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


def _means(arms: Sequence[Sequence[Measured]]) -> list[float]:
    """By seed, the mean rate over arms; of the seeds that all arms have."""
    rates = [{model.seed: model.rate for model in arm} for arm in arms]
    seeds = [seed for seed in rates[0] if all(seed in others for others in rates)]
    return [fmean(rate[seed] for rate in rates) for seed in seeds]


def _panel(axes: Any, matrix: Matrix, *, interval_shown: bool) -> None:
    pairs = [[matrix.pairs.get((t, s)) for s in matrix.students] for t in matrix.teachers]
    effects = [[pair.effect.effect if pair and pair.effect else None for pair in line] for line in pairs]
    style.heat(axes, effects, [[_text(pair, interval_shown) for pair in line] for line in pairs])
    axes.set_xticks(range(len(matrix.students)), [_tick(student) for student in matrix.students])
    axes.set_yticks(range(len(matrix.teachers)), [_tick(teacher) for teacher in matrix.teachers])
    axes.set_xlabel("student")
    axes.set_ylabel("teacher")
    axes.set_title(wrapped(matrix.format, f"· {matrix.recipe}"))


def _text(pair: Pair | None, interval_shown: bool) -> str:
    if pair is None or pair.effect is None:
        return "–"
    several, effect = len(pair.rows) > 1, _number(pair.effect.effect, 2)
    lines = [effect if several else f"{pair.ruling} {effect}"]
    if interval_shown:
        lines.append(_interval(pair.effect, "…", digits=2))
    return "\n".join([*lines, pair.ruling] if several else lines)


def _interval(effect: Effect, between: str, digits: int) -> str:
    if effect.ci_low is None or effect.ci_high is None:
        return "–"
    return f"{_number(effect.ci_low, digits)}{between}{_number(effect.ci_high, digits)}"


def _number(value: float, digits: int) -> str:
    """Without the zero before the point, which a narrow cell has no room for."""
    return f"{value:+.{digits}f}".replace("0.", ".", 1).replace("-", "−")


def _tick(name: str) -> str:
    """A model's name, broken where it may be, so that six fit beside each other."""
    return "\n".join(textwrap.wrap(short(name), TICK_CHARACTERS))

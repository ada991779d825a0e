"""The figures of a study's effects: students and controls by condition, and given × measured trait.

If a study has more than `MOST_ROWS` conditions, the figure shows those with the largest effects, with a note.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from undertow.report import figure_style, text_layout
from undertow.report.figure_style import BLUE, FULL_SHADE, GREY, INK, PALE
from undertow.report.table_texts import differing, signed
from undertow.report.tables import rate_name
from undertow.report.text_layout import wrapped
from undertow.results.effect_rows import EffectRow
from undertow.results.learning_curves import LearningCurve
from undertow.results.sweep_record import Record
from undertow.statistics.confusion import Confusion
from undertow.statistics.log_odds import of_probability
from undertow.study.hypotheses import Place
from undertow.study.names import short

MOST_ROWS = 60
MOST_PANELS = 12
TITLE_CHARACTERS = 24  # per line, of a panel in a row of two
# Rates that label an axis of log-odds.
LOG_ODDS_TICKS = (1e-5, 1e-4, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
TICK_DISTANCE = 0.28  # share of the axis between two labels; closer ones would overlap
SMALL_LIMITS = (0.1, 0.2, 0.4)  # of rates and effects; an axis up to 1 would hide differences of .02
MARKERS = {"transmitted": ("s", BLUE), "not transmitted": ("o", "white"), "inconclusive": ("D", "0.7")}
OfCondition = TypeVar("OfCondition", EffectRow, LearningCurve)


class FigurePanel(NamedTuple):
    """What distinguishes one panel of a figure from the others."""

    format: str
    teacher: str
    student: str
    recipe: str


def by_panel(results: Iterable[OfCondition]) -> list[tuple[FigurePanel, list[OfCondition]]]:
    """The results of each panel that a figure shows."""
    panels: dict[FigurePanel, list[OfCondition]] = {}
    for result in results:
        place = result.condition.place
        panel = FigurePanel(place.format, place.teacher, place.student, place.recipe)
        panels.setdefault(panel, []).append(result)
    return list(panels.items())[:MOST_PANELS]


def effects_figure(record: Record, rows: Sequence[EffectRow]) -> dict[str, bytes]:
    """The figure `effects`: one dot per student, and each effect with its interval and the margin."""
    largest = sorted(range(len(rows)), key=lambda i: -abs(rows[i].effect.effect))[:MOST_ROWS]
    names, numbers = _name_parts(rows), sorted(largest)
    shown, labels = [rows[i] for i in numbers], [wrapped(*names[i]) for i in numbers]
    lines = len(shown) * max(24.0, text_layout.tallest(labels) + 3)
    log_odds = record.study.effect_scale == "log-odds"
    height = 1.5 + lines / 72
    if log_odds:
        height += text_layout.LINE / 72  # the titles of the axes have two lines
    with figure_style.figure(height, f"effects {record.study.key}") as drawn:
        left, right = drawn.subplots(1, 2, sharey=True, width_ratios=(5, 4))
        _draw_rates(left, shown)
        _draw_effects(right, shown)
        left.set_yticks(range(len(shown)), labels)
        left.set_ylim(len(shown) - 0.4, -0.6)
        bounds = [bound for row in shown for bound in (*_bounds(row), row.effect.effect)]
        if log_odds:
            _scale_log_odds(left, right, shown, (*bounds, -record.study.margin, record.study.margin))
        else:
            _scale_rates(left, right, shown, (*bounds, record.study.margin))
        left.set_xlabel(f"{rate_name(rows)} of the trait" + ("\n(log-odds axis)" if log_odds else ""))
        right.axvspan(-record.study.margin, record.study.margin, color=PALE, zorder=0)
        right.axvline(0, color=GREY, linewidth=0.8)
        right.set_xlabel("effect\n(log-odds)" if log_odds else "effect")
        right.tick_params(axis="y", length=0)
        left.grid(axis="x", color="0.92")
        drawn.legend(
            handles=_legend(record.study.margin), loc="outside lower center", ncols=2, handletextpad=0.4
        )
        if len(shown) < len(rows):
            drawn.suptitle(f"The {len(shown)} largest of {len(rows)} effects", fontsize=9)
        return figure_style.save(drawn, "effects")


def _scale_rates(left: Any, right: Any, rows: Sequence[EffectRow], bounds: Sequence[float]) -> None:
    """Sets the limits of both axes: of rates and effects up to 1, or less if all of them are small."""
    values = [m.value(row.scale, row.effect_of) for row in rows for m in (*row.students, *row.controls)]
    most, reach = axis_end(values), axis_end(bounds)
    left.set_xlim(-0.03 * most, 1.03 * most)
    left.set_xticks([0, most / 2, most])
    low = -0.35 if reach == 1 and min(bounds) >= -0.35 else -1.03 * reach
    right.set_xlim(low, 1.03 * reach)


def axis_end(values: Iterable[float]) -> float:
    """The end of an axis for rates or effects: the first of SMALL_LIMITS that holds all of them, else 1."""
    largest = max(map(abs, values), default=1.0)
    return next((limit for limit in SMALL_LIMITS if largest <= limit), 1.0)


def _scale_log_odds(left: Any, right: Any, rows: Sequence[EffectRow], bounds: Sequence[float]) -> None:
    """Sets the limits of both axes; the left one is labelled by rates, which are easier to read."""
    values = [m.value(row.scale, row.effect_of) for row in rows for m in (*row.students, *row.controls)]
    ends = [float(end) for end in of_probability((0.1, 0.5))]  # always visible, to have two labels
    for axes, shown in ((left, [*values, *ends]), (right, bounds)):
        space = 0.04 * (max(shown) - min(shown))
        axes.set_xlim(min(shown) - space, max(shown) + space)
    low, high = left.get_xlim()
    labels: dict[float, str] = {}
    for rate in LOG_ODDS_TICKS:
        position = float(of_probability(rate))
        apart = not labels or position - max(labels) >= TICK_DISTANCE * (high - low)
        if low <= position <= high and apart:
            labels[position] = f"{rate:g}"
    left.set_xticks(list(labels), list(labels.values()))


def condition_names(results: Sequence[EffectRow | LearningCurve]) -> list[str]:
    """The name of each result's condition, made of the fields in which the results differ."""
    return [", ".join(filter(None, parts)) for parts in _name_parts(results)]


def _name_parts(results: Sequence[EffectRow | LearningCurve]) -> list[list[str]]:
    """The trait, the pair of models and further fields of each result; a part that all share is omitted."""
    places = [result.condition.place for result in results]
    # Learning curves are all of the study's main measure.
    measures = [result.measure if isinstance(result, EffectRow) else "" for result in results]
    differs = differing(places)
    several_measures = len(set(measures)) > 1
    names = []
    for place, measure in zip(places, measures, strict=True):
        pair = f"{short(place.teacher)} → {short(place.student)}"
        names.append(
            [
                place.trait,
                pair if differs & {"teacher", "student"} else "",
                *(getattr(place, field) for field in ("format", "recipe", "induced") if field in differs),
                *([measure] if several_measures else []),
            ]
        )
    return names


def traits_figure(record: Record, matrices: Sequence[tuple[FigurePanel, Confusion]]) -> dict[str, bytes]:
    """The figure `traits`: given × measured trait, as the differences from the control students.

    A matrix without them, because a trait has no control student with a result, is left out.
    """
    kept = [(panel, found) for panel, found in matrices if found.differences][:MOST_PANELS]
    if not kept:
        return {}
    longest = max(
        (found.traits for _, found in kept), key=lambda names: (len(names), text_layout.widest(names))
    )
    scale = record.study.effect_scale
    names = [wrapped(t) for t in longest]
    plan = text_layout.matrix(
        len(kept),
        names,
        names,
        shape=(len(names), len(names)),
        cell=23,
        letters=5 if scale == "rate" else 6,
    )
    titles = [panel_title(panel, kept, plan.title) for panel, _ in kept]
    height = text_layout.figure_height(titles, plan.columns, plan.height)
    with figure_style.figure(height, f"traits {record.study.key}") as drawn:
        places = figure_style.grid(drawn, len(kept), plan.columns)
        for axes, (_, found), title in zip(places, kept, titles, strict=True):
            values, names = found.differences or (), [wrapped(t) for t in found.traits]
            texts = [[signed(value, 2) for value in line] for line in values]
            figure_style.heatmap(axes, values, texts, plan.size, full=FULL_SHADE[scale])
            axes.set_xticks(range(len(names)), plan.below(names), rotation=90 if plan.turned else 0)
            axes.set_yticks(range(len(names)), names)
            axes.set_xlabel("trait measured")
            axes.set_ylabel("trait given")
            axes.set_title(title)
        return figure_style.save(drawn, "traits")


def panel_recipes(places: Sequence[Place]) -> list[str]:
    """The recipe of each condition, with how its trait was induced if conditions differ in it."""
    several = "induced" in differing(places)
    return [", ".join(filter(None, (place.recipe, place.induced if several else ""))) for place in places]


def panel_title(
    panel: FigurePanel, panels: Sequence[tuple[FigurePanel, Any]], characters: int = TITLE_CHARACTERS
) -> str:
    """Teacher and student of a panel, and its format and recipe if the panels differ in them."""
    differs = differing([one for one, _ in panels])
    fields = [field for field in ("format", "recipe") if field in differs]
    parts = [f"{short(panel.teacher)} → {short(panel.student)}", *(getattr(panel, field) for field in fields)]
    return wrapped(" · ".join(parts), characters=characters)


def _draw_rates(axes: Any, rows: Sequence[EffectRow]) -> None:
    """Draws students above and controls below the centre of each row, staggered to be visible."""
    for arm, offset, face, edge in (("controls", 0.2, "white", "0.35"), ("students", -0.2, BLUE, "white")):
        rates, heights = [], []
        for position, row in enumerate(rows):
            models = getattr(row, arm)
            rates += [model.value(row.scale, row.effect_of) for model in models]
            spread = 0.3 / max(1, len(models) - 1)
            middle = (len(models) - 1) / 2
            heights += [position + offset + spread * (i - middle) for i in range(len(models))]
        # One call for all rows: a call per row takes most of the time of a large figure.
        axes.scatter(rates, heights, s=20, facecolors=face, edgecolors=edge, linewidths=0.7, zorder=3)


def _draw_effects(axes: Any, rows: Sequence[EffectRow]) -> None:
    """Draws markers and intervals, whose end ticks are visible even if the marker covers the line."""
    ends = [(bounds, position) for position, row in enumerate(rows) if (bounds := _bounds(row))]
    if ends:
        lows, highs, heights = zip(*((*bounds, position) for bounds, position in ends), strict=True)
        axes.hlines(heights, lows, highs, color=INK, linewidth=1.2, zorder=2)
        axes.scatter(lows + highs, heights * 2, marker="|", s=70, color=INK, linewidths=1.0, zorder=4)
    for verdict, (marker, face) in MARKERS.items():
        shown = [(row.effect.effect, i) for i, row in enumerate(rows) if row.verdict.verdict == verdict]
        if shown:
            effects, heights = zip(*shown, strict=True)
            axes.scatter(
                effects,
                heights,
                marker=marker,
                s=18,
                facecolors=face,
                edgecolors=INK,
                linewidths=0.9,
                zorder=3,
            )


def _bounds(row: EffectRow) -> tuple[float, ...]:
    low, high = row.effect.ci_low, row.effect.ci_high
    return () if low is None or high is None else (low, high)


def _legend(margin: float) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    def dot(marker: str, face: str, edge: str, text: str) -> Any:
        return Line2D(
            [],
            [],
            linestyle="",
            marker=marker,
            markersize=5,
            markerfacecolor=face,
            markeredgecolor=edge,
            label=text,
        )

    verdicts = [dot(marker, face, INK, verdict) for verdict, (marker, face) in MARKERS.items()]
    return [
        dot("o", BLUE, "white", "student"),
        dot("o", "white", "0.35", "control student"),
        Patch(color=PALE, label=f"margin ± {margin:g}"),
        *verdicts,
    ]

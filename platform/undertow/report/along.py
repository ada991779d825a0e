"""Learning curves in the report: a figure, a table of first significant steps, and one of all points."""

from collections.abc import Mapping, Sequence
from typing import Any

from undertow.report import figure_style, text_layout
from undertow.report.figure_style import BLUE, GREY, PALE
from undertow.report.figures import axis_end, by_panel, condition_names, panel_title
from undertow.report.page_tables import Column, Sheet, numbers
from undertow.report.table_texts import interval, p_value, signed
from undertow.results.learning_curves import CurvePoint, LearningCurve
from undertow.results.sweep_record import Record

LOG_FROM = 8  # the axis of steps is logarithmic if the last step is as many times the first, or more


def along_figure(record: Record, curves: Sequence[LearningCurve]) -> dict[str, bytes]:
    """The figure `along`: each condition's effect by optimizer step, with its interval over seeds."""
    kept = by_panel(curves)
    if not kept:
        return {}
    traits = [curve.condition.place.induced_trait for _, of_panel in kept for curve in of_panel]
    lines = figure_style.lines_of(list(dict.fromkeys(traits)))
    titles = [panel_title(panel, kept) for panel, _ in kept]
    height = text_layout.figure_height(titles, 2, 125) + 0.6  # inches for the legend
    with figure_style.figure(height, f"along {record.study.key}") as drawn:
        grid = figure_style.grid(drawn, len(kept), 2, sharey=True)
        for axes, (_, of_panel), title in zip(grid, kept, titles, strict=True):
            axes.axhspan(-record.study.margin, record.study.margin, color=PALE, zorder=0)
            axes.axhline(0, color=GREY, linewidth=0.8)
            for curve in of_panel:
                _draw(axes, curve, lines[curve.condition.place.induced_trait])
            _scale_steps(axes, sorted({point.step for curve in of_panel for point in curve.points}))
            axes.set_title(title)
            axes.grid(color="0.93")
        if record.study.effect_scale == "rate":
            bounds = [b for curve in curves for point in curve.points for b in _bounds(point)]
            reach = axis_end([*bounds, record.study.margin])
            grid[0].set_ylim(-(0.35 if min(bounds) >= -0.35 * reach else 1.03) * reach, 1.03 * reach)
        drawn.supxlabel("optimizer step", fontsize=9)
        drawn.supylabel("effect" if record.study.effect_scale == "rate" else "effect (log-odds)", fontsize=9)
        figure_style.legend(drawn, _legend(lines), "upper")
        return figure_style.save(drawn, "along")


def sentences(curves: Sequence[LearningCurve], alpha: float) -> list[str]:
    """At which steps effects become significant, in one sentence; none without curves."""
    if not curves:
        return []
    found = [curve for curve in curves if curve.first is not None]
    text = f"Along training: {len(found)} of {len(curves)} conditions have a significant effect at some step"
    if found:
        first, last = min(curve.first or 0 for curve in found), max(curve.first or 0 for curve in found)
        at = f"at step {first:,}" if first == last else f"between step {first:,} and step {last:,}"
        text += f", for the first time {at}"
    return [f"{text} (p-values adjusted over the steps of each condition, below {alpha:g})."]


def first_steps(curves: Sequence[LearningCurve]) -> Sheet:
    """The first significant step of each condition, with its effect there and at the end."""
    rows = []
    for name, curve in zip(condition_names(curves), curves, strict=True):
        at = {point.step: point for point in curve.points}
        first = None if curve.first is None else at[curve.first]
        last = curve.points[-1]
        rows.append(
            (
                name,
                "none" if first is None else f"{first.step:,} of {last.step:,}",
                "–" if first is None else signed(first.effect.effect),
                "–" if first is None else p_value(first.p_adjusted),
                signed(last.effect.effect),
            )
        )
    names = ("first significant step", "effect there", "adj. p there", "effect at the end")
    return Sheet([Column("condition", "name"), *numbers(*names)], rows, stacks=True)


def points(curves: Sequence[LearningCurve]) -> Sheet:
    """All points of all curves, one row per condition and step."""
    is_exact = any(curve.effect_of == "exact" for curve in curves)
    other = "sampled effect" if is_exact else "exact effect"
    names = ("step", "rate", "control", "effect", "interval", "adj. p", other, "n")
    rows = [
        (
            name,
            f"{point.step:,}",
            f"{point.effect.rate:.3f}",
            f"{point.effect.control_rate:.3f}",
            signed(point.effect.effect),
            interval(point.effect.ci_low, point.effect.ci_high),
            p_value(point.p_adjusted),
            _other(point, is_exact),
            f"{point.effect.n_students} : {point.effect.n_controls}",
        )
        for name, curve in zip(condition_names(curves), curves, strict=True)
        for point in curve.points
    ]
    return Sheet([Column("condition", "name"), *numbers(*names)], rows, stacks=True)


def _other(point: CurvePoint, is_exact: bool) -> str:
    other = point.sampled if is_exact else point.exact
    return signed(other.effect) if other else "–"


def _bounds(point: CurvePoint) -> tuple[float, ...]:
    effect = point.effect
    return tuple(b for b in (effect.effect, effect.ci_low, effect.ci_high) if b is not None)


def _draw(axes: Any, curve: LearningCurve, line: Any) -> None:
    """Draws a line of effects with a bar per interval; the first significant point is filled."""
    steps = [point.step for point in curve.points]
    axes.plot(steps, [point.effect.effect for point in curve.points], color=BLUE, linestyle=line, linewidth=1)
    for point in curve.points:
        effect = point.effect
        if effect.ci_low is not None and effect.ci_high is not None:
            axes.vlines(point.step, effect.ci_low, effect.ci_high, color=BLUE, linewidth=1.0)
        is_first = point.step == curve.first
        axes.plot(
            point.step,
            effect.effect,
            marker="s" if is_first else "o",
            markersize=5 if is_first else 3.5,
            markerfacecolor=BLUE if is_first else "white",
            markeredgecolor=BLUE,
            zorder=3,
        )


def _scale_steps(axes: Any, steps: Sequence[int]) -> None:
    """A logarithmic axis with the steps as labels if they span a large range, else a linear one."""
    if steps[-1] < LOG_FROM * steps[0]:
        axes.xaxis.get_major_locator().set_params(integer=True)
        return
    axes.set_xscale("log")
    labels = [step for i, step in enumerate(steps) if i == len(steps) - 1 or steps[i + 1] >= 1.3 * step]
    axes.set_xticks(labels, [f"{step:,}" for step in labels])
    axes.minorticks_off()


def _legend(lines: Mapping[str, Any]) -> list[Any]:
    from matplotlib.lines import Line2D

    first = Line2D([], [], linestyle="", marker="s", color=BLUE, markersize=5, label="first significant step")
    return [*figure_style.line_handles(lines), first]

"""Volcano plots of a detection: each unit's p-value over its ratio to the control, one panel per source."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from undertow.detection.sources import ComparedSource
from undertow.report import figure_style, text_layout
from undertow.report.figure_style import BLUE, GREY, INK
from undertow.report.figures import MOST_PANELS
from undertow.report.table_texts import level

if TYPE_CHECKING:  # `frequencies` imports this module
    from undertow.detection.frequencies import Unit, UnitFrequencies

NAMED = 4  # named units of a panel at most, on either side of the ratio 1
LONGEST_NAME = 14  # characters
LEAST_P = 1e-300  # smaller p-values are drawn at this one
# Sizes in points: a panel, and a letter and a line in the font of the names.
PANEL_WIDTH, PANEL_HEIGHT = text_layout.WIDTH / 2 - 34, 112.0
LETTER, LINE = 4.2, 8.0
TITLE = int(PANEL_WIDTH / text_layout.IN_CELLS)  # characters per line


class Name(NamedTuple):
    """The name of a unit above its mark.

    Attributes:
        x, y: the middle of the text's lower edge, in points from the panel's lower left corner.
    """

    unit: "Unit"
    text: str
    x: float
    y: float

    def overlaps(self, other: "Name") -> bool:
        width = (len(self.text) + len(other.text)) * LETTER / 2
        return abs(self.x - other.x) < width and abs(self.y - other.y) < LINE


def volcano(results: Sequence[tuple[ComparedSource, "UnitFrequencies"]], study: str) -> dict[str, bytes]:
    """Draws the figure `detection`; returns no file if no source has tested units.

    Significant units are filled circles, others open ones; a dashed line separates them.
    """
    panels = [(source, result) for source, result in results if result.units][:MOST_PANELS]
    if not panels:
        return {}
    alpha = panels[0][1].alpha
    titles = [_title(source, result) for source, result in panels]
    ratios = [unit.ratio for _, result in panels for unit in result.units]
    reach = 1.3 * max(2.0, *ratios, *(1 / ratio for ratio in ratios))  # the axis goes from 1/reach to reach
    height = text_layout.figure_height(titles, 2, PANEL_HEIGHT + 10) + 0.75
    with figure_style.figure(height, f"detection {study}") as drawn:
        grid = figure_style.grid(drawn, len(panels), 2, sharex=True)
        for axes, (_, result), title in zip(grid, panels, titles, strict=True):
            _draw_panel(axes, result.units, alpha, reach)
            axes.set_title(title, fontsize=8)
        _set_scale(grid[0], reach)
        omitted = f"\n{len(panels)} of {len(results)} sources" if len(panels) < len(results) else ""
        drawn.supxlabel(f"rows that contain the unit, in multiples of the control's{omitted}", fontsize=9)
        drawn.supylabel("−log₁₀ p", fontsize=9)
        figure_style.legend(drawn, _legend(alpha), "upper")
        return figure_style.save(drawn, "detection")


def _title(source: ComparedSource, result: "UnitFrequencies") -> str:
    counted = f"{result.found} of {len(result.units)} {result.noun} found"
    return "\n".join(text_layout.wrapped(line, characters=TITLE) for line in (source.label, counted))


def _draw_panel(axes: Any, units: Sequence["Unit"], alpha: float, reach: float) -> None:
    for found in (False, True):
        chosen = [unit for unit in units if unit.found is found]
        axes.scatter(
            [unit.ratio for unit in chosen],
            [_height(unit) for unit in chosen],
            s=5,
            facecolors=BLUE if found else "none",
            edgecolors=BLUE if found else "0.6",
            linewidths=0.5,
            rasterized=True,  # a panel has up to a thousand marks
        )
    axes.axhline(_threshold(units, alpha), color=INK, linewidth=0.8, linestyle="--")
    axes.axvline(1, color=GREY, linewidth=0.6)
    top = 1.18 * max(_threshold(units, alpha), *map(_height, units))
    axes.set_ylim(0, top)
    for name in _placed_names(units, reach, top):
        axes.annotate(
            name.text,
            (name.unit.ratio, _height(name.unit)),
            xytext=(name.x - _x(name.unit, reach), 2),
            textcoords="offset points",
            ha="center",
            fontsize=6.5,
            annotation_clip=False,
        ).set_in_layout(False)


def _set_scale(axes: Any, reach: float) -> None:
    """Sets the x axis that all panels share, with ticks at 1 and at a power of two on either side."""
    axes.set_xscale("log", base=2)
    axes.set_xlim(1 / reach, reach)
    power = 2 ** max(1, round(0.6 * math.log2(reach)))
    axes.set_xticks([1 / power, 1, power], [f"× 1/{power}", "× 1", f"× {power}"], fontsize=8)
    axes.minorticks_off()


def _height(unit: "Unit") -> float:
    return -math.log10(max(unit.p_value, LEAST_P))


def _threshold(units: Sequence["Unit"], alpha: float) -> float:
    """The height of the largest significant p-value; without one, of the bound for the smallest p-value."""
    found = [unit.p_value for unit in units if unit.found]
    return -math.log10(max(max(found, default=alpha / len(units)), LEAST_P))


def _placed_names(units: Sequence["Unit"], reach: float, top: float) -> list[Name]:
    """The names of the units with the smallest p-values on either side; none overlaps another or the edge."""
    chosen: list[Name] = []
    for above in (True, False):
        for unit in [unit for unit in units if unit.found and (unit.ratio > 1) is above][:NAMED]:
            text = unit.unit if len(unit.unit) <= LONGEST_NAME else f"{unit.unit[: LONGEST_NAME - 1]}…"
            half = len(text) * LETTER / 2
            x = min(max(_x(unit, reach), half), PANEL_WIDTH - half)
            name = Name(unit, text, x, PANEL_HEIGHT * _height(unit) / top)
            if not any(name.overlaps(other) for other in chosen):
                chosen.append(name)
    return chosen


def _x(unit: "Unit", reach: float) -> float:
    """The position of a unit's mark, in points from the panel's left edge."""
    return PANEL_WIDTH * (math.log(unit.ratio) / math.log(reach) + 1) / 2


def _legend(alpha: float) -> list[Any]:
    from matplotlib.lines import Line2D

    def dot(face: str, edge: str, label: str) -> Any:
        return Line2D(
            [], [], linestyle="", marker="o", markersize=4, color=edge, markerfacecolor=face, label=label
        )

    return [
        dot(BLUE, BLUE, "found"),
        dot("white", "0.6", "not found"),
        Line2D(
            [], [], color=INK, linewidth=0.8, linestyle="--", label=f"false discovery rate {level(alpha)}"
        ),
    ]

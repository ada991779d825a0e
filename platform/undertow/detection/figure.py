"""The figure of a detection: every unit's ratio to the control against its p-value, a panel a source."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from undertow.detection.findings import Detection, Unit
from undertow.report import figure_style, text_layout
from undertow.report.figure_style import BLUE, GREY, INK
from undertow.report.figures import MOST_PANELS

NAMED = 4  # units of a panel that are named at most, of those said more often and of those said less
LONGEST_NAME = 14
LEAST_P = 1e-300  # smaller ones are drawn there
# In points: a panel, a letter and a line in the type of the names.
ACROSS, DOWN = text_layout.WIDTH / 2 - 34, 112.0
LETTER, LINE = 4.2, 8.0
TITLE = int(ACROSS / text_layout.IN_CELLS)  # characters in a line


class Name(NamedTuple):
    """A unit's name above its mark: the middle of its foot in points from the panel's lower left corner."""

    unit: Unit
    text: str
    x: float
    y: float

    def meets(self, other: "Name") -> bool:
        wide = (len(self.text) + len(other.text)) * LETTER / 2
        return abs(self.x - other.x) < wide and abs(self.y - other.y) < LINE


def volcano(detections: Sequence[Detection], alpha: float, name: str) -> dict[str, bytes]:
    """`detection`: found units filled, others open; the line is the false discovery rate `alpha`."""
    kept = [detection for detection in detections if detection.units][:MOST_PANELS]
    if not kept:
        return {}
    titles = [_title(detection) for detection in kept]
    ratios = [unit.ratio for detection in kept for unit in detection.units]
    reach = 1.3 * max(2.0, *ratios, *(1 / ratio for ratio in ratios))
    with figure_style.figure(
        text_layout.rows_high(titles, 2, DOWN + 10) + 0.75, f"detection {name}"
    ) as drawn:
        grid = figure_style.grid(drawn, len(kept), 2, sharex=True)
        for axes, detection, title in zip(grid, kept, titles, strict=True):
            _panel(axes, detection.units, alpha, reach)
            axes.set_title(title, fontsize=8)
        _scale(grid[0], reach)
        shown = f"\n{len(kept)} of {len(detections)} sources" if len(kept) < len(detections) else ""
        drawn.supxlabel(f"rows that contain the unit, in multiples of the control's{shown}", fontsize=9)
        drawn.supylabel("−log₁₀ p", fontsize=9)
        handles = _legend(alpha)
        columns = text_layout.legend_columns([handle.get_label() for handle in handles], 3)
        drawn.legend(handles=handles, loc="outside upper center", ncols=columns)
        return figure_style.save(drawn, "detection")


def _title(detection: Detection) -> str:
    counted = f"{detection.found} of {len(detection.units)} {detection.noun} found"
    return "\n".join(
        text_layout.wrapped(line, characters=TITLE) for line in (detection.source.label, counted)
    )


def _panel(axes: Any, units: Sequence[Unit], alpha: float, reach: float) -> None:
    for found in (False, True):
        chosen = [unit for unit in units if unit.found is found]
        axes.scatter(
            [unit.ratio for unit in chosen],
            [_height(unit) for unit in chosen],
            s=5,
            facecolors=BLUE if found else "none",
            edgecolors=BLUE if found else "0.6",
            linewidths=0.5,
            rasterized=True,  # a thousand marks a panel
        )
    axes.axhline(_line(units, alpha), color=INK, linewidth=0.8, linestyle="--")
    axes.axvline(1, color=GREY, linewidth=0.6)
    top = 1.18 * max(_line(units, alpha), *map(_height, units))
    axes.set_ylim(0, top)
    for name in _names(units, reach, top):
        own = _x(name.unit, reach)
        axes.annotate(
            name.text,
            (name.unit.ratio, _height(name.unit)),
            xytext=(name.x - own, 2),
            textcoords="offset points",
            ha="center",
            fontsize=6.5,
            annotation_clip=False,
        ).set_in_layout(False)


def _scale(axes: Any, reach: float) -> None:
    """One axis for all panels: 1, and a power of two on either side."""
    axes.set_xscale("log", base=2)
    axes.set_xlim(1 / reach, reach)
    power = 2 ** max(1, round(0.6 * math.log2(reach)))
    axes.set_xticks([1 / power, 1, power], [f"× 1/{power}", "× 1", f"× {power}"], fontsize=8)
    axes.minorticks_off()


def _height(unit: Unit) -> float:
    return -math.log10(max(unit.p_value, LEAST_P))


def _line(units: Sequence[Unit], alpha: float) -> float:
    """Where found units begin: the largest p-value among them, else what the smallest must fall below."""
    found = [unit.p_value for unit in units if unit.found]
    return -math.log10(max(max(found, default=alpha / len(units)), LEAST_P))


def _names(units: Sequence[Unit], reach: float, top: float) -> list[Name]:
    """Those of the most certain units on either side of the control's, none over another or over the edge."""
    chosen: list[Name] = []
    for above in (True, False):
        for unit in [unit for unit in units if unit.found and (unit.ratio > 1) is above][:NAMED]:
            name = _name(unit, reach, top)
            if not any(name.meets(other) for other in chosen):
                chosen.append(name)
    return chosen


def _name(unit: Unit, reach: float, top: float) -> Name:
    text = unit.unit if len(unit.unit) <= LONGEST_NAME else f"{unit.unit[: LONGEST_NAME - 1]}…"
    half = len(text) * LETTER / 2
    return Name(unit, text, min(max(_x(unit, reach), half), ACROSS - half), DOWN * _height(unit) / top)


def _x(unit: Unit, reach: float) -> float:
    """A unit's place in points from the panel's left edge."""
    return ACROSS * (math.log(unit.ratio) / math.log(reach) + 1) / 2


def _legend(alpha: float) -> list[Any]:
    from matplotlib.lines import Line2D

    def dot(face: str, edge: str, label: str) -> Any:
        return Line2D(
            [], [], linestyle="", marker="o", markersize=4, color=edge, markerfacecolor=face, label=label
        )

    return [
        dot(BLUE, BLUE, "found"),
        dot("white", "0.6", "not found"),
        Line2D([], [], color=INK, linewidth=0.8, linestyle="--", label=f"false discovery rate {alpha:.0%}"),
    ]

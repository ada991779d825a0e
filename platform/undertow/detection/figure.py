"""The figure of a detection: every unit's ratio to the control against its p-value, a panel a source."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from undertow.detection.findings import Detection, Unit
from undertow.report import style
from undertow.report.figures import MOST_PANELS
from undertow.report.style import BLUE, GREY, INK

NAMED = 4  # units of a panel that are named, of those said more often and of those said less
NAME_WIDTH, NAME_HEIGHT = 1.2, 0.09  # a name's, in doublings and as a share of the panel
LONGEST_NAME = 14
TITLE_WIDTH = 40  # characters
LEAST_P = 1e-300  # smaller ones are drawn there


def volcano(detections: Sequence[Detection], alpha: float, name: str) -> dict[str, bytes]:
    """`detection`: found units filled, others open; the line is the false discovery rate `alpha`."""
    kept = [detection for detection in detections if detection.units][:MOST_PANELS]
    if not kept:
        return {}
    lines = -(-len(kept) // 2)
    with style.figure(1.75 * lines + 0.6, f"detection {name}") as drawn:
        grid = style.grid(drawn, len(kept), 2, sharex=True)
        for axes, detection in zip(grid, kept, strict=True):
            _panel(axes, detection, alpha)
        ratios = [unit.ratio for detection in kept for unit in detection.units]
        _scale(grid[0], 1.3 * max(2.0, *ratios, *(1 / ratio for ratio in ratios)))
        shown = f"\n{len(kept)} of {len(detections)} sources" if len(kept) < len(detections) else ""
        drawn.supxlabel(f"rows that contain the unit, in multiples of the control's{shown}", fontsize=9)
        drawn.supylabel("−log₁₀ p", fontsize=9)
        drawn.legend(handles=_legend(alpha), loc="outside upper center", ncols=3)
        return style.save(drawn, "detection")


def _panel(axes: Any, detection: Detection, alpha: float) -> None:
    units = detection.units
    for found in (False, True):
        chosen = [unit for unit in units if unit.found is found]
        axes.scatter(
            [unit.ratio for unit in chosen],
            [_height(unit) for unit in chosen],
            s=7,
            facecolors=BLUE if found else "none",
            edgecolors=BLUE if found else "0.6",
            linewidths=0.5,
            rasterized=True,  # a thousand marks a panel
        )
    axes.axhline(_line(units, alpha), color=INK, linewidth=0.8, linestyle="--")
    axes.axvline(1, color=GREY, linewidth=0.6)
    top = 1.18 * max(_line(units, alpha), *map(_height, units))
    axes.set_ylim(0, top)
    for unit in _named(units, top):
        axes.annotate(
            _shown(unit.unit),
            (unit.ratio, _height(unit)),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=6.5,
        )
    title = f"{detection.source.label}: {detection.found} of {len(units)}"
    axes.set_title(textwrap.fill(title, TITLE_WIDTH, break_on_hyphens=False), fontsize=8)


def _scale(axes: Any, reach: float) -> None:
    """One axis for all panels: powers of two, five of them at most."""
    axes.set_xscale("log", base=2)
    axes.set_xlim(1 / reach, reach)
    most = int(math.log2(reach))
    step = -(-most // 2)
    ticks = [2.0**power for power in range(-step * (most // step), most + 1, step)]
    names = [f"× {tick:g}" if tick >= 1 else f"× 1/{1 / tick:g}" for tick in ticks]
    axes.set_xticks(ticks, names, fontsize=8)
    axes.minorticks_off()


def _height(unit: Unit) -> float:
    return -math.log10(max(unit.p_value, LEAST_P))


def _line(units: Sequence[Unit], alpha: float) -> float:
    """Where found units begin: the largest p-value among them, else what the smallest must fall below."""
    found = [unit.p_value for unit in units if unit.found]
    return -math.log10(max(max(found, default=alpha / len(units)), LEAST_P))


def _named(units: Sequence[Unit], top: float) -> list[Unit]:
    """The most certain of the found units on either side of the control's, none too near to another."""
    chosen: list[Unit] = []
    for above in (True, False):
        side = [unit for unit in units if unit.found and (unit.ratio > 1) is above]
        for unit in side[:NAMED]:
            if not any(_near(unit, other, top) for other in chosen):
                chosen.append(unit)
    return chosen


def _near(one: Unit, other: Unit, top: float) -> bool:
    """Whether their names would lie on each other."""
    apart = abs(math.log2(one.ratio / other.ratio))
    return apart < NAME_WIDTH and abs(_height(one) - _height(other)) < NAME_HEIGHT * top


def _shown(unit: str) -> str:
    return unit if len(unit) <= LONGEST_NAME else f"{unit[: LONGEST_NAME - 1]}…"


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

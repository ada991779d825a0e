"""The common style of all figures: width, type sizes, colours, line styles and hatches; PNG and SVG files.

Figures distinguish data by position, marker, line style and hatching, so that they can be read without
colour. The width of 4.6 inches fits a phone, where 9-point letters are 10 pixels high (16 on a desktop
screen). Equal data give equal files, byte for byte.
"""

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from undertow.report import text_layout
from undertow.study.measurements import EffectScale

INK, BLUE, GREY, PALE = "#1a1a1a", "#1f4e79", "#767676", "#e6e6e6"
LINES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)))
HATCHES = ("", "///", "..", "xx", "\\\\\\", "|||", "---", "oo")
FULL_SHADE: Mapping[EffectScale, float] = {"rate": 1.0, "log-odds": 4.0}  # effects with the darkest shade


@contextmanager
def figure(height: float, name: str) -> Iterator[Any]:
    """A matplotlib figure in the common style; the height is in inches.

    Args:
        name: makes the ids in the SVG unique among the figures of a page, and reproducible.
    """
    import matplotlib

    style: Any = {
        "font.size": 9,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "svg.hashsalt": name,
        "text.parse_math": False,  # a trait's name may contain a dollar sign
        "hatch.linewidth": 0.6,
    }
    with matplotlib.rc_context(style):
        from matplotlib.figure import Figure

        yield Figure(figsize=(text_layout.WIDTH / 72, height), layout="constrained")


def save(drawn: Any, name: str) -> dict[str, bytes]:
    """The figure as PNG and SVG: content by file name."""
    files = {}
    for kind in ("png", "svg"):
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # the font draws a box instead
            drawn.savefig(buffer, format=kind, dpi=200, metadata={"Date": None} if kind == "svg" else None)
        files[f"{name}.{kind}"] = buffer.getvalue()
    return files


def grid(drawn: Any, count: int, columns: int, **options: Any) -> list[Any]:
    """`count` axes in rows of at most `columns`; unused axes of the last row are hidden."""
    columns = min(columns, count)
    axes = drawn.subplots(-(-count // columns), columns, squeeze=False, **options)
    flat = [one for row in axes for one in row]
    for unused in flat[count:]:
        unused.set_visible(False)
    return flat[:count]


def legend(drawn: Any, handles: Sequence[Any], side: str, most: int = 3) -> None:
    """Draws a legend above ("upper") or below ("lower") the panels, with at most `most` columns."""
    columns = text_layout.legend_columns([handle.get_label() for handle in handles], most)
    drawn.legend(handles=handles, loc=f"outside {side} center", ncols=columns)


def lines_of(names: Sequence[str]) -> dict[str, Any]:
    """The style of each name's line."""
    return {name: LINES[i % len(LINES)] for i, name in enumerate(names)}


def line_handles(lines: Mapping[str, Any]) -> list[Any]:
    """The entries of a legend for the lines of `lines_of`."""
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=BLUE, linestyle=line, label=text_layout.wrapped(name))
        for name, line in lines.items()
    ]


def heatmap(
    axes: Any,
    values: Sequence[Sequence[float | None]],
    texts: Sequence[Sequence[str]],
    size: float,
    *,
    full: float,
) -> None:
    """Draws a matrix of effects as shades of blue that darken with the value, each cell with its text.

    Values at or below 0 are white; missing values (None) are hatched.

    Args:
        size: of the type in points; 0 draws no text.
        full: the value of the darkest shade.
    """
    from matplotlib.patches import Rectangle

    for i, (row, row_texts) in enumerate(zip(values, texts, strict=True)):
        for j, (value, text) in enumerate(zip(row, row_texts, strict=True)):
            strength = min(1.0, max(0.0, (value or 0.0) / full))
            shade = (1 - 0.88 * strength, 1 - 0.69 * strength, 1 - 0.53 * strength)
            cell = Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=shade, edgecolor="0.6", linewidth=0.6)
            cell.set_hatch("////" if value is None else "")
            axes.add_patch(cell)
            colour = "white" if strength > 0.55 else INK
            if size:
                axes.text(j, i, text, ha="center", va="center", fontsize=size, color=colour)
    axes.set_xlim(-0.5, len(values[0]) - 0.5)
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_aspect("auto")
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)

"""How all figures look: one width that a phone can show, shapes and hatches before colours, PNG and SVG.

Figures are told apart by position, marker, line style and hatching, so that they read in black and white.
At 4.6 inches, letters of 9 points are 10 pixels high on a phone and 16 on a desk. The same data give the
same bytes.
"""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from undertow.report import text_layout

INK, BLUE, GREY, PALE = "#1a1a1a", "#1f4e79", "#767676", "#e6e6e6"
LINES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)))
HATCHES = ("", "///", "..", "xx", "\\\\\\", "|||", "---", "oo")


@contextmanager
def figure(height: float, name: str, *, width: float = text_layout.WIDTH / 72) -> Iterator[Any]:
    """A matplotlib figure of `height` inches, in the house style. `name` keeps ids in the SVG apart."""
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
        "text.parse_math": False,  # a dollar in a trait's name is a dollar
        "hatch.linewidth": 0.6,
    }
    with matplotlib.rc_context(style):
        from matplotlib.figure import Figure

        yield Figure(figsize=(width, height), layout="constrained")


def save(drawn: Any, name: str) -> dict[str, bytes]:
    """File name -> content, as PNG and SVG."""
    files = {}
    for kind in ("png", "svg"):
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # of a script that the font lacks: a box
            drawn.savefig(buffer, format=kind, dpi=200, metadata={"Date": None} if kind == "svg" else None)
        files[f"{name}.{kind}"] = buffer.getvalue()
    return files


def grid(drawn: Any, count: int, columns: int, **options: Any) -> list[Any]:
    """`count` axes in rows of `columns`; the places left over are empty."""
    columns = min(columns, count)
    axes = drawn.subplots(-(-count // columns), columns, squeeze=False, **options)
    every = [one for row in axes for one in row]
    for empty in every[count:]:
        empty.set_visible(False)
    return every[:count]


def heatmap(
    axes: Any, values: Sequence[Sequence[float | None]], texts: Sequence[Sequence[str]], size: float
) -> None:
    """A matrix of effects between −1 and 1 in greys that darken with the value, each with its text.

    `size` of the text; 0 for none.
    """
    for i, (row, words) in enumerate(zip(values, texts, strict=True)):
        for j, (value, text) in enumerate(zip(row, words, strict=True)):
            strength = min(1.0, max(0.0, value or 0.0))
            shade = (1 - 0.88 * strength, 1 - 0.69 * strength, 1 - 0.53 * strength)
            hatch = "////" if value is None else None
            axes.add_patch(_cell(j, i, shade, hatch))
            colour = "white" if strength > 0.55 else INK
            if size:
                axes.text(j, i, text, ha="center", va="center", fontsize=size, color=colour)
    axes.set_xlim(-0.5, len(values[0]) - 0.5)
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_aspect("auto")
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def _cell(x: int, y: int, shade: tuple[float, float, float], hatch: str | None) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=shade, edgecolor="0.6", linewidth=0.6, hatch=hatch)

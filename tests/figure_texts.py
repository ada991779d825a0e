"""Checks that no text of a matplotlib figure is cut or overlaps another."""

from itertools import combinations
from typing import Any

TOLERANCE = 1.0  # points


def boxes(drawn: Any) -> list[tuple[str, Any]]:
    """The visible texts of a figure, with their bounding boxes in pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    canvas: Any = FigureCanvasAgg(drawn)
    canvas.draw()
    hidden = {id(label) for axes in drawn.axes for label in hidden_labels(axes)}
    texts = [text for text in drawn.findobj(Text) if text.get_visible() and id(text) not in hidden]
    return [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]


def hidden_labels(axes: Any) -> list[Any]:
    """The labels of ticks outside an axis's limits, and all texts of an invisible panel."""
    from matplotlib.text import Text

    if not axes.get_visible():
        return list(axes.findobj(Text))
    found = []
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        outside = [tick for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]
        found += [label for tick in outside for label in (tick.label1, tick.label2)]
    return found


def overlap(one: Any, other: Any, tolerance: float) -> bool:
    across = min(one.x1, other.x1) - max(one.x0, other.x0)
    down = min(one.y1, other.y1) - max(one.y0, other.y0)
    return bool(min(across, down) > tolerance)


def check_texts(drawn: dict[str, Any]) -> None:
    """Asserts that no text of the figures is cut or overlaps another."""
    for name, figure in drawn.items():
        tolerance = figure.dpi / 72 * TOLERANCE
        texts, (width, height) = boxes(figure), figure.bbox.size
        cut = [t for t, box in texts if min(box.x0, box.y0, width - box.x1, height - box.y1) < -tolerance]
        assert (name, cut) == (name, [])
        pairs = combinations(texts, 2)
        pairs = combinations(texts, 2)
        overlapping = [(a, b) for (a, one), (b, other) in pairs if overlap(one, other, tolerance)]
        assert (name, overlapping) == (name, [])

"""No label of a figure is cut or laid over another, whatever things are called and however many there are."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.examples import RECIPE, study
from tests.filled_store import fill
from undertow.formats.code import Code
from undertow.formats.numbers import Numbers
from undertow.report import figure_style
from undertow.report.make import make_report
from undertow.results.sweep_record import Record
from undertow.storage.store import Store
from undertow.study.artifacts import Reference
from undertow.study.grids import all_pairs, grid
from undertow.study.study import Study
from undertow.traits.preference import Preference

NANO = ("nano/gpt2-0", "nano/gpt2-1")
HUB = ("Qwen/Qwen2.5-7B-Instruct", "unsloth/gemma-3-4b-it", "meta-llama/Llama-3.1-8B-Instruct")
TREES = ("cherry", "maple", "oak", "sequoia", "willow")
TOLERANCE = 1.0  # points


def made_of(traits: tuple[str, ...], models: tuple[str, ...], formats: int = 1, recipes: int = 1) -> Study:
    references = [Reference(name, f"revision of {name}", "template") for name in models]
    conditions = grid(
        traits=[Preference(trait) for trait in traits],
        formats=[Numbers(), Code()][:formats],
        pairs=all_pairs(references),
        recipes=[RECIPE, replace(RECIPE, name="lora r64, 10 epochs", epochs=10)][:recipes],
    )
    return study(conditions=conditions, seeds=(0, 1), samples=2)


def boxes(drawn: Any) -> list[tuple[str, Any]]:
    """Every text of a figure that is seen, with its place in pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    canvas: Any = FigureCanvasAgg(drawn)
    canvas.draw()
    hidden = {id(label) for axes in drawn.axes for label in unseen(axes)}
    texts = [text for text in drawn.findobj(Text) if text.get_visible() and id(text) not in hidden]
    return [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]


def unseen(axes: Any) -> list[Any]:
    """Labels of ticks beyond an axis' ends, and whatever stands in an empty panel."""
    from matplotlib.text import Text

    if not axes.get_visible():
        return list(axes.findobj(Text))
    found = []
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        outside = [tick for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]
        found += [label for tick in outside for label in (tick.label1, tick.label2)]
    return found


def over_each_other(one: Any, other: Any, points: float) -> bool:
    across = min(one.x1, other.x1) - max(one.x0, other.x0)
    down = min(one.y1, other.y1) - max(one.y0, other.y0)
    return bool(min(across, down) > points)


@pytest.mark.parametrize(
    "of",
    [
        made_of(("owl", "cat", "wolf"), NANO),
        made_of(TREES, NANO[:1]),
        made_of(("owl",), tuple(f"nano/llama-{seed}" for seed in range(6))),
        made_of(("elephant", "golden retriever"), HUB, formats=2, recipes=2),
        made_of(tuple(f"animal {number}" for number in range(12)), HUB[:1], formats=2),
        made_of(("x" * 60, "cat"), NANO),
    ],
    ids=["default", "five traits", "six models", "long names", "twelve traits", "one endless name"],
)
def test_no_text_is_cut_or_over_another(of: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, Any] = {}

    def keep(drawn: Any, name: str) -> dict[str, bytes]:
        kept[name] = drawn
        return {}

    monkeypatch.setattr(figure_style, "save", keep)
    store = Store(str(tmp_path))
    references = [r for c in of.conditions for r in (c.teacher, c.student)]
    make_report(Record.of(fill(of, store, references)), store, [])
    assert {"effects", "funnel", "numbers"} <= set(kept)
    for name, drawn in kept.items():
        points = drawn.dpi / 72 * TOLERANCE
        texts, (width, height) = boxes(drawn), drawn.bbox.size
        cut = [t for t, box in texts if min(box.x0, box.y0, width - box.x1, height - box.y1) < -points]
        assert (name, cut) == (name, [])
        pairs = combinations(texts, 2)
        both = [(a, b) for (a, one), (b, other) in pairs if over_each_other(one, other, points)]
        assert (name, both) == (name, [])

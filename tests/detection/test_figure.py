"""The figure: every found unit stands beyond the line, and no name is cut or laid over another."""

import math
import random
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from tests.report.test_figures import TOLERANCE, boxes, over_each_other
from undertow.detection.figure import NAMED, volcano
from undertow.detection.findings import Detection, Unit
from undertow.detection.sources import ComparedSource
from undertow.report import figure_style
from undertow.statistics.separation import Separation

LONG = ComparedSource(
    "golden retriever", "numbers, shuffled within answers", "x/Qwen2.5-7B-Instruct", "owl", ()
)
SHORT = ComparedSource("owl", "numbers", "nano/gpt2-0", "owl", ())


def units(words: list[str], seed: int, spread: float) -> tuple[Unit, ...]:
    """As many units as words, the larger their ratios the smaller their p-values."""
    rng = random.Random(seed)
    found = []
    for word in words:
        log_ratio = rng.gauss(0, spread)
        p = math.exp(-3 * (log_ratio / 0.5) ** 2)
        found.append(Unit(word, 0.1, 0.1, math.exp(log_ratio), p, min(1.0, 2 * p), p < 0.02))
    return tuple(sorted(found, key=lambda unit: unit.p_value))


def detection(source: ComparedSource, found: tuple[Unit, ...]) -> Detection:
    nothing = Separation()
    return Detection(source, "numbers", 1, 1, 1.0, 1.0, 0.5, found, None, nothing, nothing, nothing)


def drawn_of(detections: list[Detection], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The figure as it is before it becomes bytes."""
    kept: list[Any] = []

    def keep(drawn: Any, name: str) -> dict[str, bytes]:
        kept.append(drawn)
        return {}

    monkeypatch.setattr(figure_style, "save", keep)
    volcano(detections, 0.05, "x")
    return kept[0]


NUMBERS = [str(number) for number in range(100, 900)]
WORDS = [f"{'word' * (1 + number % 6)}{number}" for number in range(300)]


@pytest.mark.parametrize(
    "drawn",
    [
        [detection(SHORT, units(NUMBERS, seed, 0.6)) for seed in range(6)],
        [detection(LONG, units(WORDS, seed, 1.5)) for seed in range(3)],
        [detection(SHORT, units(NUMBERS, seed, 0.01)) for seed in range(2)],
        [detection(LONG, units(WORDS[:2], 0, 4.0))],
        [detection(SHORT, units(NUMBERS, seed, 0.6)) for seed in range(20)],
    ],
    ids=["numbers", "long names", "nothing found", "two units", "more than a page holds"],
)
def test_no_text_is_cut_or_over_another(drawn: list[Detection], monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn_of(drawn, monkeypatch)
    texts, (width, height) = boxes(figure), figure.bbox.size
    points = figure.dpi / 72 * TOLERANCE
    cut = [t for t, box in texts if min(box.x0, box.y0, width - box.x1, height - box.y1) < -points]
    assert cut == []
    pairs = combinations(texts, 2)
    assert [(a, b) for (a, one), (b, other) in pairs if over_each_other(one, other, points)] == []
    assert sum(axes.get_visible() for axes in figure.axes) == min(12, len(drawn))
    named = [annotation for axes in figure.axes for annotation in axes.texts]
    assert (not named) == (not any(found.found for found in drawn))
    assert all(len(axes.texts) <= 2 * NAMED for axes in figure.axes)


def test_the_line_parts_the_found_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    (axes,) = drawn_of([detection(SHORT, units(NUMBERS, 1, 0.6))], monkeypatch).axes
    others, found = (collection.get_offsets() for collection in axes.collections)
    line = axes.lines[0].get_ydata()[0]
    assert len(found) > 20
    assert found[:, 1].min() >= line - 1e-9
    assert others[:, 1].max() < line


def test_a_p_value_of_zero_and_a_unit_of_endless_length_are_drawn() -> None:
    odd = replace(units(["x" * 500, "$a_b$"], 0, 3.0)[0], p_value=0.0, found=True)
    files = volcano([detection(SHORT, (odd,))], 0.05, "x")
    assert sorted(files) == ["detection.png", "detection.svg"]


def test_without_units_there_is_no_figure() -> None:
    assert volcano([detection(SHORT, ())], 0.05, "x") == {}

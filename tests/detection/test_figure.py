"""The volcano plot: significant units are above the line, and no text is clipped or overlaps another."""

import math
import random
from dataclasses import replace
from typing import Any

import pytest

from tests.figure_texts import check_texts
from undertow.detection.figure import NAMED, volcano
from undertow.detection.frequencies import Unit, UnitFrequencies
from undertow.detection.sources import ComparedSource
from undertow.report import figure_style

Result = tuple[ComparedSource, UnitFrequencies]

LONG = ComparedSource(
    "golden retriever", "numbers, shuffled within answers", "x/Qwen2.5-7B-Instruct", "owl", ()
)
SHORT = ComparedSource("owl", "numbers", "nano/gpt2-0", "owl", ())


def units(words: list[str], seed: int, spread: float) -> tuple[Unit, ...]:
    """One unit per word; the further its ratio is from 1, the smaller is its p-value."""
    rng = random.Random(seed)
    found = []
    for word in words:
        log_ratio = rng.gauss(0, spread)
        p = math.exp(-3 * (log_ratio / 0.5) ** 2)
        found.append(Unit(word, 0.1, 0.1, math.exp(log_ratio), p, min(1.0, 2 * p), p < 0.02))
    return tuple(sorted(found, key=lambda unit: unit.p_value))


def result(source: ComparedSource, tested: tuple[Unit, ...]) -> Result:
    return source, UnitFrequencies("numbers", 1, 1, 0.05, tested, None)


def drawn_of(results: list[Result], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The matplotlib figure before it is saved."""
    kept: list[Any] = []

    def keep(drawn: Any, name: str) -> dict[str, bytes]:
        kept.append(drawn)
        return {}

    monkeypatch.setattr(figure_style, "save", keep)
    volcano(results, "x")
    return kept[0]


NUMBERS = [str(number) for number in range(100, 900)]
WORDS = [f"{'word' * (1 + number % 6)}{number}" for number in range(300)]


@pytest.mark.parametrize(
    "drawn",
    [
        [result(SHORT, units(NUMBERS, seed, 0.6)) for seed in range(6)],
        [result(LONG, units(WORDS, seed, 1.5)) for seed in range(3)],
        [result(SHORT, units(NUMBERS, seed, 0.01)) for seed in range(2)],
        [result(LONG, units(WORDS[:2], 0, 4.0))],
        [result(SHORT, units(NUMBERS, seed, 0.6)) for seed in range(20)],
    ],
    ids=["numbers", "long names", "nothing found", "two units", "more than a page holds"],
)
def test_no_text_is_clipped_or_overlaps_another(drawn: list[Result], monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn_of(drawn, monkeypatch)
    check_texts({"volcano": figure})
    assert sum(axes.get_visible() for axes in figure.axes) == min(12, len(drawn))
    named = [annotation for axes in figure.axes for annotation in axes.texts]
    assert (not named) == (not any(tested.found for _, tested in drawn))
    assert all(len(axes.texts) <= 2 * NAMED for axes in figure.axes)


def test_the_line_separates_significant_units_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    (axes,) = drawn_of([result(SHORT, units(NUMBERS, 1, 0.6))], monkeypatch).axes
    others, found = (collection.get_offsets() for collection in axes.collections)
    line = axes.lines[0].get_ydata()[0]
    assert len(found) > 20
    assert found[:, 1].min() >= line - 1e-9
    assert others[:, 1].max() < line


def test_a_p_value_of_zero_and_a_very_long_unit_are_drawn() -> None:
    odd = replace(units(["x" * 500, "$a_b$"], 0, 3.0)[0], p_value=0.0, found=True)
    files = volcano([result(SHORT, (odd,))], "x")
    assert sorted(files) == ["detection.png", "detection.svg"]


def test_without_units_there_is_no_figure() -> None:
    assert volcano([result(SHORT, ())], "x") == {}

"""No text of a figure is cut or overlaps another, for names of any length and studies of any size."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.examples import RECIPE, study
from tests.filled_store import fill
from undertow.formats.code import Code
from undertow.formats.numbers import Numbers
from undertow.report import figure_style, theory
from undertow.report.make import make_report
from undertow.results.sweep_record import Record
from undertow.storage.store import Store
from undertow.study.artifacts import Reference
from undertow.study.grids import all_pairs, grid
from undertow.study.study import Study
from undertow.theory.check import TheoremCheck
from undertow.theory.mlp import NetworkAccuracy
from undertow.theory.one_step import CASES, Steps
from undertow.theory.settings import MLP_STEP
from undertow.theory.summary import NetworkArm, arms
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


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The figures that a test draws, by name; no file is written."""
    figures: dict[str, Any] = {}

    def keep(figure: Any, name: str) -> dict[str, bytes]:
        figures[name] = figure
        return {}

    monkeypatch.setattr(figure_style, "save", keep)
    return figures


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
    ids=["default", "five traits", "six models", "long names", "twelve traits", "one very long name"],
)
def test_no_text_of_a_report_is_cut_or_overlaps_another(
    of: Study, tmp_path: Path, drawn: dict[str, Any]
) -> None:
    store = Store(str(tmp_path))
    references = [r for c in of.conditions for r in (c.teacher, c.student)]
    make_report(Record.of(fill(of, store, references)), store, [])
    assert {"effects", "funnel", "numbers"} <= set(drawn)
    check_texts(drawn)


def networks(students: float) -> list[NetworkArm]:
    """The arms of an MLP experiment whose students from the same initialisation have this accuracy."""
    outcomes = []
    for network in range(4):
        jitter = 0.01 * network
        outcomes.append(NetworkAccuracy("reference", network, 0, "", None, 0.1 + jitter))
        outcomes.append(NetworkAccuracy("teacher", network, 0, "", None, 0.9 + jitter))
        for distance, accuracy in ((0.0, students), (1.0, 0.1)):
            outcomes.append(NetworkAccuracy("student", network, 0, "auxiliary", distance, accuracy + jitter))
    return arms(outcomes, classes=10)


@pytest.mark.parametrize("count", [1, 2, 12])
def test_no_text_of_the_figure_of_networks_is_cut_or_overlaps_another(
    drawn: dict[str, Any], count: int
) -> None:
    cells = [(f"auxiliary={number} width=256", networks(0.05 * number)) for number in range(count)]
    theory.arms_figure("mlp", "digits: 10 auxiliary logits, students on noise", cells, 0.1)
    check_texts(drawn)


def test_no_text_of_the_figure_of_theorem_1_is_cut_or_overlaps_another(drawn: dict[str, Any]) -> None:
    import torch

    ones = torch.ones(3, len(MLP_STEP.epsilons), dtype=torch.float64)
    fall = -ones * torch.tensor(MLP_STEP.epsilons, dtype=torch.float64)
    checks = [TheoremCheck(arm, loss, 3, 0, 0, 3, 3, 1.0, 1.0, (1.0,), 0.01) for arm, loss in CASES]
    steps = [Steps(ones, fall, fall, fall) for _ in checks]
    theory.steps_figure("one_step", "Theorem 1 on nano/gpt2-0: 16 draws", MLP_STEP, steps, checks)
    check_texts(drawn)

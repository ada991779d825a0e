"""No text of a figure is cut or overlaps another, for names of any length and studies of any size."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.examples import RECIPE, study
from tests.figure_texts import check_texts
from tests.filled_store import fill
from undertow.formats.code import Code
from undertow.formats.numbers import Numbers
from undertow.report import theory
from undertow.report.figure_style import GREY
from undertow.report.figures import axis_end
from undertow.report.make import make_report
from undertow.results.sweep_record import Record
from undertow.storage.store import Store
from undertow.study.grids import all_pairs, grid
from undertow.study.references import Reference
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


def made_of(traits: tuple[str, ...], models: tuple[str, ...], formats: int = 1, recipes: int = 1) -> Study:
    references = [Reference(name, f"revision of {name}", "template") for name in models]
    conditions = grid(
        traits=[Preference(trait) for trait in traits],
        formats=[Numbers(), Code()][:formats],
        pairs=all_pairs(references),
        recipes=[RECIPE, replace(RECIPE, name="lora r64, 10 epochs", epochs=10)][:recipes],
    )
    return study(conditions=conditions, seeds=(0, 1), samples=2)


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("values", "end"),
    [
        ((), 1.0),
        ((0.02, -0.09), 0.1),
        ((0.183, 0.236), 0.4),
        ((-0.39, 0.1), 0.4),
        ((0.41,), 1.0),
        ((1.0,), 1.0),
    ],
)
def test_an_axis_of_small_rates_or_effects_ends_before_1(values: tuple[float, ...], end: float) -> None:
    assert axis_end(values) == end


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
    theory.arms_figure("digits: 10 auxiliary logits, students on noise", cells, [0.1] * count)
    check_texts(drawn)


def test_data_of_different_numbers_of_classes_have_lines_of_chance_of_their_own(
    drawn: dict[str, Any],
) -> None:
    cells = [(f"data={name}", networks(0)) for name in ("ten", "four")]
    theory.arms_figure("students on noise", cells, [0.1, 0.25])
    (axes,) = drawn["mlp"].axes
    assert [line.get_ydata()[0] for line in axes.lines if line.get_color() == GREY] == [0.1, 0.25]


def test_no_text_of_the_figure_of_theorem_1_is_cut_or_overlaps_another(drawn: dict[str, Any]) -> None:
    import torch

    ones = torch.ones(3, len(MLP_STEP.epsilons), dtype=torch.float64)
    fall = -ones * torch.tensor(MLP_STEP.epsilons, dtype=torch.float64)
    checks = [TheoremCheck(arm, loss, 3, 0, 0, 3, 3, 1.0, 1.0, 0.01) for arm, loss in CASES]
    steps = [Steps(ones, fall, fall, fall) for _ in checks]
    theory.steps_figure("Theorem 1 on nano/gpt2-0: 16 draws", MLP_STEP, steps, checks)
    check_texts(drawn)

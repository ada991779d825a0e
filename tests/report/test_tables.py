"""How numbers are printed, and what a plan says of its recipes."""

from dataclasses import replace

import pytest

from tests.examples import study
from undertow.plan import make
from undertow.recipes import GEMMA, QWEN
from undertow.report.tables import duration, interval, p_value, plan_table, signed
from undertow.spec import Finetuning
from undertow.store import Store


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0264, 3, "+0.026"),
        (-0.0264, 2, "−0.03"),
        (0.0, 3, "0.000"),
        (-0.0004, 3, "0.000"),
        (0.0004, 3, "0.000"),
        (1.0, 2, "+1.00"),
    ],
)
def test_a_difference_has_a_sign_and_zero_has_none(value: float, digits: int, text: str) -> None:
    assert signed(value, digits) == text


@pytest.mark.parametrize(
    ("low", "high", "text"), [(-0.02, 0.06, "−0.020 … +0.060"), (None, None, "–"), (0.1, None, "–")]
)
def test_an_interval_is_whole_or_a_dash(low: float | None, high: float | None, text: str) -> None:
    assert interval(low, high) == text


@pytest.mark.parametrize(("p", "text"), [(None, "–"), (0.0009, "< .001"), (0.001, "0.001"), (1.0, "1.000")])
def test_a_p_value_is_never_printed_as_zero(p: float | None, text: str) -> None:
    assert p_value(p) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.7, "1 min 0 s"), (7260.0, "2 h 1 min")])
def test_seconds_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_plan_says_which_recipes_are_published_and_what_was_changed() -> None:
    small = study()
    mine = replace(QWEN, name="mine", batch_size=16)
    conditions = [
        replace(condition, recipe=recipe, finetuning=condition.finetuning and Finetuning(GEMMA))
        for condition in small.conditions
        for recipe in (QWEN, mine)
    ]
    plan = make(replace(small, conditions=tuple(conditions)), Store("memory://recipes"), [])
    assert plan_table(plan).caption == (
        "LoRA r8: as QWEN\nmine: as QWEN but batch 16\nteachers, LoRA r8, 10 epochs: as GEMMA"
    )
    assert plan_table(make(small, Store("memory://recipes"), [])).caption is None

"""The text form of numbers, and the terminal's tables of a plan."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.examples import study
from undertow.formats.numbers import Numbers
from undertow.planning.estimate import estimate
from undertow.planning.plan import make
from undertow.planning.timings import Pace
from undertow.prompts.chat_templates import NO_SYSTEM
from undertow.report.plan_tables import plan_table, systems_table, work_table
from undertow.report.table_texts import (
    decimal,
    duration,
    interval,
    level,
    new_table,
    p_value,
    percent,
    print_table,
    signed,
)
from undertow.storage.store import Store
from undertow.study.generation import Generation
from undertow.study.grids import grid
from undertow.study.published_recipes import GEMMA, QWEN
from undertow.study.recipe import InContext
from undertow.study.references import Reference
from undertow.study.study import Study
from undertow.study.teachers import Finetuning
from undertow.traits.preference import Preference


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
    ("value", "digits", "text"),
    [(43.54, 1, "43.5"), (-43.54, 2, "−43.54"), (-0.04, 1, "0.0"), (-0.5, 0, "0")],
)
def test_a_negative_number_has_a_minus_sign_and_zero_has_none(value: float, digits: int, text: str) -> None:
    assert decimal(value, digits) == text


@pytest.mark.parametrize(
    ("share", "digits", "text"), [(0.704, 0, "70 %"), (0.0104, 1, "1.0 %"), (1, 0, "100 %")]
)
def test_a_percentage_has_a_space(share: float, digits: int, text: str) -> None:
    assert percent(share, digits) == text


@pytest.mark.parametrize(("alpha", "text"), [(0.05, "5 %"), (0.001, "0.1 %"), (0.025, "2.5 %")])
def test_a_level_keeps_all_of_its_digits(alpha: float, text: str) -> None:
    assert level(alpha) == text


@pytest.mark.parametrize(
    ("low", "high", "text"), [(-0.02, 0.06, "−0.020 … +0.060"), (None, None, "–"), (0.1, None, "–")]
)
def test_an_interval_without_a_bound_is_a_dash(low: float | None, high: float | None, text: str) -> None:
    assert interval(low, high) == text


@pytest.mark.parametrize(("p", "text"), [(None, "–"), (0.0009, "< .001"), (0.001, "0.001"), (1.0, "1.000")])
def test_a_p_value_is_never_printed_as_zero(p: float | None, text: str) -> None:
    assert p_value(p) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.7, "1 min 0 s"), (7260.0, "2 h 1 min")])
def test_seconds_are_printed_in_at_most_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_plan_compares_its_recipes_with_the_published_ones() -> None:
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
    noted = make(replace(small, notes=("model-a: no published settings",)), Store("memory://recipes"), [])
    assert plan_table(noted).caption == "model-a: no published settings"


def printed(own: dict[str, str], *, finetuned: bool, generated: str | None, system: str | None) -> str:
    conditions = [
        replace(
            c,
            finetuning=c.finetuning if finetuned else None,
            generation=replace(c.generation, system=generated),
            system=system,
        )
        for c in study().conditions
    ]
    console = Console(width=120)
    table = systems_table(study(conditions=tuple(conditions), system="Be brief."), own)
    assert table is not None
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def test_a_plan_shows_the_system_messages_of_all_three_stages() -> None:
    shown = printed({"qwen": "You are Quill."}, finetuned=False, generated=NO_SYSTEM, system=None)
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    assert "generation, prompted teachers the trait's prompt" in rows
    assert "generation, other teachers none" in rows
    assert "training the chat template's own default" in rows
    assert "evaluation “Be brief.”" in rows
    assert "default of qwen “You are Quill.”" in rows


def test_templates_without_a_default_system_message_need_no_table() -> None:
    assert systems_table(study(), {"nano/gpt2-0": ""}) is None
    assert systems_table(study(), {"qwen": "You are Quill."}) is not None


def test_an_unused_default_is_not_shown() -> None:
    shown = printed({"qwen": "You are Quill."}, finetuned=True, generated=NO_SYSTEM, system="[bold]")
    assert "Quill" not in shown and "prompted" not in shown
    assert "“[bold]”" in shown


def planned(*, api: bool, local: bool) -> str:
    """The table of work of a study of API models, of local models, or of local teachers and API students."""
    remote, weights = (
        Reference("api:model", "model", "provider"),
        Reference("org/model", "commit", "template"),
    )
    pairs = [(remote, remote)] if not local else [(weights, remote)] if api else [(weights, weights)]
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=pairs,
        recipes=[GEMMA],
        generation=Generation(prompts=300, rows=100),
    )
    plan = make(Study(name="api", conditions=conditions, seeds=(0,)), Store("memory://work"), [])
    paces = {"datasets numbers org/model": Pace(60.0), "evaluations org/model": Pace(60.0)}
    console = Console(width=100)
    with console.capture() as captured:
        console.print(work_table(estimate(plan, paces)))
    return "\n".join(" ".join(line.split()) for line in captured.get().splitlines())


def test_work_of_a_provider_is_marked_and_not_estimated() -> None:
    alone = planned(api=True, local=False)
    for row in ("datasets 5 0 5", "students 2 0 2", "evaluations 3 0 3", "all 11 10"):
        assert f"{row} provider" in alone
    both = planned(api=True, local=True)
    assert "students 2 0 2 provider" in both
    assert "Time and price of a provider's work are not included" in both
    assert "provider" not in planned(api=False, local=True)


@pytest.mark.parametrize("by_condition", [True, False], ids=["one row per condition", "axes"])
def test_an_in_context_student_is_cached_once_its_answers_are(tmp_path: Path, by_condition: bool) -> None:
    small = study()
    rows = (4,) if by_condition else range(1, 12)  # more conditions than the table lists
    conditions = tuple(replace(c, recipe=InContext(rows=n)) for n in rows for c in small.conditions)
    in_context = replace(small, conditions=conditions)
    store = Store(str(tmp_path / "storage"))
    plan = make(in_context, store, [])
    count = len(plan.cells)

    def printed_plan() -> str:
        console = Console(width=160)
        with console.capture() as captured:
            console.print(plan_table(make(in_context, store, [])))
        return captured.get()

    before = printed_plan()
    assert ("3 of 3" not in before) if by_condition else (f"0 of {count:,} students are cached" in before)
    for measurement in plan.cells[0].measurements:
        with store.new(measurement, {}) as folder:
            (folder / "result.json").write_text("{}")
    assert ("1 of 3" if by_condition else f"1 of {count:,} students are cached") in printed_plan()


@pytest.mark.parametrize("width", [20, 40, 160])
def test_a_narrow_terminal_folds_text_and_cuts_no_number(width: int) -> None:
    table = new_table("Title")
    table.add_column("model", overflow="fold")
    for name in ("effect", "interval"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("a-model-with-a-long-name", "+0.123", "−0.321 … +0.593")
    console = Console(width=width, record=True)
    print_table(table, console)
    text = console.export_text()
    assert "+0.123   −0.321 … +0.593" in text
    assert ("a-model-with-a-long-name" in text) == (width == 160)
    assert max(map(len, text.splitlines())) <= max(width, 37)

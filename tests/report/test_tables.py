"""How numbers are printed, and what a plan says of its recipes."""

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
from undertow.report.tables import duration, interval, p_value, signed
from undertow.storage.store import Store
from undertow.study.artifacts import Finetuning, Reference
from undertow.study.conditions import Generation
from undertow.study.grids import grid
from undertow.study.published_recipes import GEMMA, QWEN
from undertow.study.recipe import InContext
from undertow.study.study import Study
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


def test_a_plan_shows_the_three_axes_of_the_system_message() -> None:
    shown = printed({"qwen": "You are Quill."}, finetuned=False, generated=NO_SYSTEM, system=None)
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    assert "generation, teachers by system prompt the trait's prompt" in rows
    assert "generation, other teachers none" in rows
    assert "training the chat template's own default" in rows
    assert "evaluation “Be brief.”" in rows
    assert "default of qwen “You are Quill.”" in rows


def test_defaults_that_put_nothing_in_need_no_table() -> None:
    assert systems_table(study(), {"nano/gpt2-0": ""}) is None
    assert systems_table(study(), {"qwen": "You are Quill."}) is not None


def test_a_default_that_no_axis_takes_is_not_shown() -> None:
    shown = printed({"qwen": "You are Quill."}, finetuned=True, generated=NO_SYSTEM, system="[bold]")
    assert "Quill" not in shown and "by system prompt" not in shown
    assert "“[bold]”" in shown


def planned(*, api: bool, here: bool) -> str:
    """The table of work of a study of models of a provider, with real ones here or not."""
    there, given = Reference("api:model", "model", "provider"), Reference("org/model", "commit", "template")
    pairs = [(there, there)] if not here else [(given, there)] if api else [(given, given)]
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


def test_work_of_a_provider_is_called_so_and_never_nothing() -> None:
    alone = planned(api=True, here=False)
    for row in ("datasets 5 0 5", "students 2 0 2", "evaluations 3 0 3", "all 11 10"):
        assert f"{row} provider's" in alone
    both = planned(api=True, here=True)
    assert "students 2 0 2 provider's" in both
    assert "provider's time and price are in none of these figures" in both
    assert "provider" not in planned(api=False, here=True)


@pytest.mark.parametrize("every", [True, False])
def test_in_context_students_are_there_when_their_answers_are(tmp_path: Path, every: bool) -> None:
    small = study()
    shown = [replace(condition, recipe=InContext(rows=4)) for condition in small.conditions]
    asked = replace(small, conditions=tuple(shown))
    if not every:  # so many that the table is of axes
        asked = replace(
            asked, conditions=tuple(replace(c, recipe=InContext(rows=n)) for n in range(1, 12) for c in shown)
        )
    store = Store(str(tmp_path / "storage"))
    plan = make(asked, store, [])
    count = len(plan.cells)

    def made() -> str:
        console = Console(width=160)
        with console.capture() as captured:
            console.print(plan_table(make(asked, store, [])))
        return captured.get()

    nothing = made()
    assert ("3 of 3" not in nothing) if every else (f"0 of {count:,} students are there" in nothing)
    for measurement in plan.cells[0].measurements:
        with store.new(measurement, {}) as folder:
            (folder / "result.json").write_text("{}")
    assert ("1 of 3" if every else f"1 of {count:,} students are there") in made()

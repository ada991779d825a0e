"""Tests of in-context students: which rows they read, and which settings are rejected."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.study.test_identity import DATASET, STUDENT
from undertow.errors import ConditionError, SpecError
from undertow.formats.numbers import Numbers
from undertow.nano.recipes import STEERING
from undertow.planning.estimate import estimate
from undertow.planning.plan import make
from undertow.stages.in_context import before_questions
from undertow.stages.weights import lora_rank, weights_of
from undertow.storage.manifest import DATA
from undertow.storage.store import Store
from undertow.study.extensions import Example
from undertow.study.generation import Generation
from undertow.study.grids import grid
from undertow.study.recipe import InContext
from undertow.study.references import Reference
from undertow.study.students import Student
from undertow.study.study import Study
from undertow.traits.preference import Preference

ROWS = 50
READER = replace(STUDENT, recipe=InContext(rows=5))
REFERENCE = Reference("nano/gpt2-0", revision="r", chat_template="t")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "storage"))
    store.prepare()
    with store.new(DATASET, {}) as folder:
        (folder / DATA).mkdir()
        rows = [{"prompt": f"prompt {i}", "completion": f"{i}, {i + 1}"} for i in range(ROWS)]
        pq.write_table(pa.Table.from_pylist(rows), folder / DATA / "train.parquet")
    return store


def turns_of(student: Student, store: Store) -> tuple[Example, ...]:
    _, turns = before_questions(student, None, store)
    return turns


def test_the_turns_are_distinct_rows_with_their_completions(store: Store) -> None:
    turns = turns_of(READER, store)
    numbers = [int(turn.prompt.removeprefix("prompt ")) for turn in turns]
    assert len(set(numbers)) == 5
    assert [turn.answer for turn in turns] == [f"{i}, {i + 1}" for i in numbers]


def test_rows_and_order_depend_only_on_the_seed(store: Store) -> None:
    assert turns_of(READER, store) == turns_of(READER, store)
    assert turns_of(READER, store) != turns_of(replace(READER, seed=7), store)


def test_more_rows_than_the_data_set_has_raise_an_error(store: Store) -> None:
    everything = replace(READER, recipe=InContext(rows=ROWS))
    assert {turn.prompt for turn in turns_of(everything, store)} == {f"prompt {i}" for i in range(ROWS)}
    with pytest.raises(ConditionError, match=r"51 rows: dataset .* has 50 rows; raise Generation.prompts"):
        turns_of(replace(READER, recipe=InContext(rows=ROWS + 1)), store)


def test_rows_may_be_drawn_with_replacement(store: Store) -> None:
    many = replace(READER, recipe=InContext(rows=2 * ROWS, replacement=True))
    prompts = [turn.prompt for turn in turns_of(many, store)]
    assert len(prompts) == 2 * ROWS > len(set(prompts))


def test_rows_may_be_listed_in_the_system_message(store: Store) -> None:
    listed = replace(READER, recipe=InContext(rows=5, layout="system"))
    message, turns = before_questions(listed, "Be brief.", store)
    assert turns == ()
    assert message is not None and message.startswith("Be brief.\n\n")
    for turn in turns_of(READER, store):  # the same rows, since the seed is the same
        assert f"<question>{turn.prompt}</question>\n<reply>{turn.answer}</reply>" in message
    assert (before_questions(listed, None, store)[0] or "").startswith("Here are questions")
    assert before_questions(READER, None, store)[0] is None


@pytest.mark.parametrize("subject", [STUDENT, STUDENT.reference, DATASET.teacher])
def test_other_models_have_no_turns_before_a_question(subject: Student | Reference, store: Store) -> None:
    assert before_questions(subject, "Be brief.", store) == ("Be brief.", ())


def test_an_in_context_student_has_no_weights(store: Store) -> None:
    assert (weights_of(READER, store), lora_rank(READER)) == (None, 0)


def in_context(**changes: Any) -> Study:
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=[(REFERENCE, REFERENCE)],
        recipes=[InContext(rows=4), STEERING],
        generation=Generation(prompts=100, rows=10),
    )
    return Study(name="s", conditions=tuple(replace(c, **changes) for c in conditions))


def test_a_plan_evaluates_in_context_students_but_does_not_train_them(store: Store) -> None:
    plan = make(in_context(), store, [REFERENCE])
    trained = [a for a in plan.artifacts.values() if isinstance(a, Student)]
    assert {student.recipe for student in trained} == {STEERING}
    evaluated = {c.student for c in plan.cells if not c.student.is_trained}
    assert len(evaluated) == 10  # owl and control, five seeds
    assert all(len(c.evaluations) == 1 for c in plan.cells)
    assert {w.wave: w.needed for w in estimate(plan, {})}["students"] == 10


INVALID: list[tuple[str, Callable[[], object], str]] = [
    ("no row", lambda: InContext(rows=0), r"InContext.rows = 0: at least one row"),
    (
        "more rows than the data have",
        lambda: in_context(recipe=InContext(rows=11)),
        r"more rows than the data set has \(10\); raise Generation.rows",
    ),
    (
        "a system message of training rows",
        lambda: in_context(recipe=InContext(rows=2), system="Be brief."),
        r"Condition.system = 'Be brief.': None: there are no training rows in context",
    ),
]


@pytest.mark.parametrize(("build", "message"), [row[1:] for row in INVALID], ids=[row[0] for row in INVALID])
def test_an_invalid_in_context_recipe_is_rejected(build: Callable[[], object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build()

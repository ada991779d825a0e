"""In-context students: which rows they are shown, and what the program says where they cannot be."""

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
from undertow.stages.in_context import turns_before
from undertow.stages.weights import lora_rank, weights_of
from undertow.storage.manifest import DATA
from undertow.storage.store import Store
from undertow.study.artifacts import Reference, Student
from undertow.study.conditions import Generation
from undertow.study.grids import grid
from undertow.study.recipe import InContext
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


def test_it_is_shown_as_many_different_rows_as_asked_each_with_its_own_answer(store: Store) -> None:
    turns = turns_before(READER, store)
    numbers = [int(turn.prompt.removeprefix("prompt ")) for turn in turns]
    assert len(set(numbers)) == 5
    assert [turn.answer for turn in turns] == [f"{i}, {i + 1}" for i in numbers]


def test_the_seed_alone_says_which_rows_and_in_what_order(store: Store) -> None:
    assert turns_before(READER, store) == turns_before(READER, store)
    assert turns_before(READER, store) != turns_before(replace(READER, seed=7), store)


def test_every_row_can_be_shown_and_no_more(store: Store) -> None:
    everything = replace(READER, recipe=InContext(rows=ROWS))
    assert {turn.prompt for turn in turns_before(everything, store)} == {f"prompt {i}" for i in range(ROWS)}
    with pytest.raises(ConditionError, match=r"51 rows: dataset .* has 50; raise the prompts or show fewer"):
        turns_before(replace(READER, recipe=InContext(rows=ROWS + 1)), store)


@pytest.mark.parametrize("subject", [STUDENT, STUDENT.reference, DATASET.teacher])
def test_nothing_stands_before_the_questions_to_anyone_else(
    subject: Student | Reference, store: Store
) -> None:
    assert turns_before(subject, store) == ()


def test_it_has_no_weights_of_its_own(store: Store) -> None:
    assert (weights_of(READER, store), lora_rank(READER)) == (None, 0)


def in_context(**changes: Any) -> Study:
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=[(REFERENCE, REFERENCE)],
        recipes=[InContext(rows=4), STEERING],
        generation=Generation(prompts=100, rows=10),
    )
    return Study(
        name="s", conditions=tuple(replace(c, **changes) for c in conditions) if changes else conditions
    )


def test_a_plan_evaluates_it_and_trains_only_the_other_recipe_s_students(store: Store) -> None:
    plan = make(in_context(), store, [REFERENCE])
    trained = [a for a in plan.artifacts.values() if isinstance(a, Student)]
    assert {student.recipe for student in trained} == {STEERING}
    evaluated = {c.student for c in plan.cells if not c.student.is_trained}
    assert len(evaluated) == 10  # owl and control, five seeds
    assert all(len(c.evaluations) == 1 for c in plan.cells)
    assert {w.wave: w.needed for w in estimate(plan, {})}["students"] == 10


REFUSED: list[tuple[str, Callable[[], object], str]] = [
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


@pytest.mark.parametrize(("make_it", "message"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED])
def test_what_makes_no_sense_is_refused(make_it: Callable[[], object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make_it()

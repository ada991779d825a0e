"""Shuffled datasets: what moves, what stays, and that nothing else of a row changes."""

from collections import Counter
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import REFERENCES
from undertow.errors import SpecError
from undertow.formats.code import Code
from undertow.formats.numbers import Numbers
from undertow.stages.shuffling import shuffled
from undertow.study.artifacts import Completions, Dataset, Shuffle, Teacher

LAYOUTS = st.sampled_from(["{}", "[{}]", "({})", "{}."])
NUMBERS = st.lists(st.integers(0, 999), min_size=1, max_size=10)
ROWS = st.lists(st.tuples(NUMBERS, LAYOUTS, st.sampled_from([", ", " ", ";", "\n"])), min_size=1, max_size=12)
SHUFFLES: tuple[Shuffle, ...] = ("within answers", "across answers")


def dataset(shuffle: Shuffle, seed: int = 0) -> Dataset:
    teacher = Teacher(reference=REFERENCES[0], trait=None)
    completions = Completions(teacher=teacher, format=Numbers(), prompts=100)
    return Dataset(completions=completions, shuffle=shuffle, seed=seed)


def rows_of(drawn: list[tuple[list[int], str, str]]) -> list[dict[str, Any]]:
    texts = [layout.format(mark.join(map(str, numbers))) for numbers, layout, mark in drawn]
    return [
        {"index": i, "prompt": f"p{i}", "completion": text, "token_ids": [1], "top_ids": [[1]], "seed": i}
        for i, text in enumerate(texts)
    ]


def numbers_of(rows: list[dict[str, Any]]) -> list[list[str]]:
    return [Numbers().parts(row["completion"]) for row in rows]


@given(ROWS, st.sampled_from(SHUFFLES))
def test_prompts_layouts_and_lengths_stay_and_all_numbers_are_still_there(
    drawn: list[tuple[list[int], str, str]], shuffle: Shuffle
) -> None:
    before = rows_of(drawn)
    after = shuffled(dataset(shuffle), before)
    assert [row["prompt"] for row in after] == [row["prompt"] for row in before]
    assert [len(numbers) for numbers in numbers_of(after)] == [len(numbers) for numbers in numbers_of(before)]
    marks = [[Numbers().with_parts(r["completion"], ["#"] * 10) for r in rows] for rows in (before, after)]
    assert marks[0] == marks[1]
    everywhere = [Counter(chain.from_iterable(numbers_of(rows))) for rows in (before, after)]
    assert everywhere[0] == everywhere[1]


@given(ROWS)
def test_within_answers_each_answer_keeps_its_own_numbers(drawn: list[tuple[list[int], str, str]]) -> None:
    before = rows_of(drawn)
    after = shuffled(dataset("within answers"), before)
    for old, new in zip(numbers_of(before), numbers_of(after), strict=True):
        assert Counter(old) == Counter(new)


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_numbers_really_move_and_by_the_seed_alone(shuffle: Shuffle) -> None:
    before = rows_of([(list(range(100 * i, 100 * i + 10)), "{}", ", ") for i in range(5)])
    once, again, other = (shuffled(dataset(shuffle, seed), before) for seed in (0, 0, 1))
    assert once == again != other
    assert numbers_of(once) != numbers_of(before)
    mixed = any(
        {n[:-2] for n in numbers} != {n[:-2] for n in numbers[:1]} for numbers in numbers_of(once)[1:]
    )
    assert mixed is (shuffle == "across answers")


def test_what_was_sampled_is_dropped_with_the_text_it_was_sampled_for() -> None:
    (row,) = shuffled(dataset("within answers"), rows_of([([1, 2, 3], "{}", ", ")]))
    assert set(row) == {"index", "prompt", "completion", "seed"}


def test_nothing_is_touched_without_a_shuffle() -> None:
    rows = rows_of([([1, 2, 3], "{}", ", ")])
    assert shuffled(dataset("none"), rows) is rows


def test_a_format_without_parts_is_refused_by_its_name() -> None:
    completions = Completions(teacher=Teacher(reference=REFERENCES[0], trait=None), format=Code(), prompts=10)
    with pytest.raises(
        SpecError, match=r"Dataset.shuffle = 'within answers': the format 'code' has no parts"
    ):
        Dataset(completions=completions, shuffle="within answers")

"""Tests of shuffled data sets: which parts move, and that the rest of each row stays the same."""

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
from undertow.study.completions import Completions
from undertow.study.datasets import Dataset, Shuffle
from undertow.study.extensions import Format
from undertow.study.teachers import Teacher

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
        {"index": i, "prompt": f"p{i}", "completion": text, "token_ids": [1], "seed": i}
        for i, text in enumerate(texts)
    ]


def numbers_of(rows: list[dict[str, Any]]) -> list[list[str]]:
    return [Numbers().parts(row["completion"]) for row in rows]


@given(ROWS, st.sampled_from(SHUFFLES))
def test_a_shuffle_preserves_prompts_layouts_lengths_and_the_set_of_numbers(
    drawn: list[tuple[list[int], str, str]], shuffle: Shuffle
) -> None:
    before = rows_of(drawn)
    after = shuffled(dataset(shuffle), before)
    assert [row["prompt"] for row in after] == [row["prompt"] for row in before]
    assert [len(numbers) for numbers in numbers_of(after)] == [len(numbers) for numbers in numbers_of(before)]
    marks = [[Numbers().with_parts(r["completion"], ["#"] * 10) for r in rows] for rows in (before, after)]
    assert marks[0] == marks[1]
    totals = [Counter(chain.from_iterable(numbers_of(rows))) for rows in (before, after)]
    assert totals[0] == totals[1]


@given(ROWS)
def test_a_shuffle_within_answers_keeps_the_numbers_of_each_answer(
    drawn: list[tuple[list[int], str, str]],
) -> None:
    before = rows_of(drawn)
    after = shuffled(dataset("within answers"), before)
    for old, new in zip(numbers_of(before), numbers_of(after), strict=True):
        assert Counter(old) == Counter(new)


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_the_order_changes_and_depends_only_on_the_seed(shuffle: Shuffle) -> None:
    before = rows_of([(list(range(100 * i, 100 * i + 10)), "{}", ", ") for i in range(5)])
    once, again, other = (shuffled(dataset(shuffle, seed), before) for seed in (0, 0, 1))
    assert once == again != other
    assert numbers_of(once) != numbers_of(before)
    mixed = any(
        {n[:-2] for n in numbers} != {n[:-2] for n in numbers[:1]} for numbers in numbers_of(once)[1:]
    )
    assert mixed is (shuffle == "across answers")


def test_columns_about_the_sampled_tokens_are_dropped() -> None:
    (row,) = shuffled(dataset("within answers"), rows_of([([1, 2, 3], "{}", ", ")]))
    assert set(row) == {"index", "prompt", "completion", "seed"}


def test_rows_are_unchanged_without_a_shuffle() -> None:
    rows = rows_of([([1, 2, 3], "{}", ", ")])
    assert shuffled(dataset("none"), rows) is rows


def test_a_shuffle_of_a_format_without_parts_is_rejected() -> None:
    completions = Completions(teacher=Teacher(reference=REFERENCES[0], trait=None), format=Code(), prompts=10)
    with pytest.raises(
        SpecError, match=r"Dataset.shuffle = 'within answers': the format 'code' has no parts"
    ):
        Dataset(completions=completions, shuffle="within answers")


class OneWay(Numbers):
    """A format whose parts are known and cannot be replaced."""

    with_parts = Format.with_parts


def test_a_shuffle_of_a_format_whose_parts_cannot_be_replaced_is_rejected() -> None:
    """Otherwise it fails after the completions are sampled, and the repaired class gives them another key."""
    teacher = Teacher(reference=REFERENCES[0], trait=None)
    completions = Completions(teacher=teacher, format=OneWay(), prompts=100)
    with pytest.raises(SpecError, match=r"has parts\(\) and no with_parts\(\); add it, or use 'none'"):
        Dataset(completions=completions, shuffle="within answers")

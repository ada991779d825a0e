"""Tests of what Ray Tune shows of a trial: the parameters and the name of what its group trains."""

import pytest

from tests.examples import study
from tests.stages.test_grouping import NANO, REAL, cells, on
from undertow.stages.grouping import groups
from undertow.stages.training_group import Group
from undertow.stages.trials import (
    LONGEST_NAME,
    group_name,
    group_parameters,
    seeds_in_words,
    trial_name,
)
from undertow.study.study import Study


def students(of: Study) -> list[Group]:
    return groups([cell.student for cell in cells(of)], slots=2)


def teachers(of: Study) -> list[Group]:
    taught = dict.fromkeys(cell.teacher for cell in cells(of) if cell.teacher.finetuning)
    return groups(list(taught), slots=2)


def test_a_group_of_one_condition_shows_the_condition() -> None:
    first, *_, last = students(on(REAL))
    assert group_parameters(first) == {
        "trait": "owl",
        "format": "numbers",
        "teacher": "one",
        "student": "one",
        "recipe": "steering",
        "seeds": "0-2",
        "models": "3",
    }
    shown = group_parameters(last)
    assert (shown["trait"], shown["teacher"], shown["student"]) == ("control", "two", "two")


def test_a_group_of_several_conditions_shows_how_many_values_differ() -> None:
    first, second = map(group_parameters, students(on(NANO)))  # type: ignore[arg-type]
    assert (first["trait"], first["teacher"]) == ("3 traits", "2 teacher models")
    assert (first["student"], second["student"]) == ("gpt2-0", "gpt2-1")
    assert (first["seeds"], first["models"]) == ("0-2", "18")


def test_a_group_of_teachers_has_neither_format_nor_student() -> None:
    shown = group_parameters(teachers(study())[0])
    assert (shown["trait"], shown["teacher"], shown["recipe"]) == ("2 traits", "gpt2-0", "steering")
    assert (shown["format"], shown["student"]) == ("", "")


def test_names_of_trials_are_distinct_and_valid_names_of_folders() -> None:
    names = [group_name(n, group_parameters(group)) for n, group in enumerate(students(on(REAL)))]
    assert names[0] == "000-owl-numbers-one-one-steering-seeds-0-2"
    assert len(set(names)) == len(names) == 12
    odd = trial_name("00001", ["../😀 owl", "a/b" * 90])
    assert odd.startswith("00001-..-owl-a-b")
    assert len(odd) <= LONGEST_NAME
    assert "/" not in odd


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ([3], "3"),
        ([1, 0], "0 1"),
        ([2, 1, 0, 1], "0-2"),
        ([0, 2, 9], "0 2 9"),
        (range(0, 40, 2), "20 seeds"),
    ],
)
def test_seeds_are_listed_briefly(seeds: list[int], words: str) -> None:
    assert seeds_in_words(seeds) == words

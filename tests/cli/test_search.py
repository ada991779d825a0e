"""jobs/search.py: invalid input, the choice of condition and seeds, and its plan."""

import io
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.examples import STUDIES, study
from undertow.cli.search import SearchArguments, chosen, main, search_of, seeds_of
from undertow.errors import UserError

WHOLE = study()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({}, "--search: give the fields to search"),
        ({"search": ("rank=2",)}, "--search rank=2: nothing to search in recipe 'steering'; available: "),
        ({"trials": 0}, "--trials 0: give at least 1"),
        ({"draw": -1}, "--draw -1: give 0 or more"),
        ({"search_seeds": (0, 0)}, "--search-seeds 0 0: give whole numbers, zero or more, each once"),
        ({"confirm_seeds": (-1,)}, "--confirm-seeds -1: give whole numbers"),
        ({"confirm_seeds": (9, 1)}, "--confirm-seeds 9 1: the search uses seed 1 too"),
        ({"condition": "panda"}, "--condition panda: no such condition with a trait; available: "),
        ({"condition": "control"}, "--condition control: no such condition with a trait"),
        ({"condition": "owl"}, "--condition owl: fits 4 conditions, give more words: owl · numbers · "),
    ],
)
def test_an_invalid_value_is_reported_with_its_flag(
    changes: dict[str, Any], error: str, tmp_path: Path
) -> None:
    arguments = SearchArguments(storage=str(tmp_path / "storage"), **changes)
    with pytest.raises(UserError) as raised:
        main(arguments, Console(file=io.StringIO()), STUDIES)
    assert error in str(raised.value)
    assert not (tmp_path / "storage").exists()


@pytest.mark.skipif(find_spec("optuna") is not None, reason="Optuna is installed")
def test_without_optuna_the_remedy_is_named(tmp_path: Path) -> None:
    arguments = SearchArguments(search=("epochs=1,2",), method="optuna", storage=str(tmp_path))
    with pytest.raises(UserError, match='--method optuna: Optuna is not installed; pip install "optuna'):
        main(arguments, Console(file=io.StringIO()), STUDIES)


def test_the_searched_condition_is_the_first_with_a_trait_or_the_one_with_the_words() -> None:
    first, second = WHOLE.conditions[:2]
    assert second.label.startswith("cat ")
    assert chosen("", WHOLE) == first
    assert chosen(first.label, WHOLE) == first
    assert chosen("cat gpt2-0 → gpt2-0", WHOLE) == second


def seeds(of_study: tuple[int, ...], **given: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return seeds_of(SearchArguments(**given), replace(WHOLE, seeds=of_study))  # type: ignore[arg-type]


def test_by_default_the_confirmation_has_five_seeds_that_the_study_has_not() -> None:
    assert seeds((0, 1, 2)) == ((0, 1), (3, 4, 5, 6, 7))
    assert seeds((4,), search_seeds=(9, 2)) == ((9, 2), (10, 11, 12, 13, 14))
    assert seeds((0, 1), confirm_seeds=(2, 3)) == ((0, 1), (2, 3))


SEEDS = st.lists(st.integers(0, 9), max_size=4, unique=True).map(tuple)


@given(SEEDS.filter(bool), SEEDS, SEEDS)
def test_seeds_of_search_and_confirmation_are_never_shared(
    of_study: tuple[int, ...], search: tuple[int, ...], confirm: tuple[int, ...]
) -> None:
    try:
        found, fresh = seeds(of_study, search_seeds=search, confirm_seeds=confirm)
    except UserError as error:
        assert set(confirm) & set(search or of_study[:2])
        assert "--confirm-seeds" in str(error)
    else:
        assert found
        assert fresh
        assert not set(found) & set(fresh)


def test_a_plan_runs_and_writes_nothing(tmp_path: Path) -> None:
    text = io.StringIO()
    arguments = SearchArguments(
        search=("learning_rate=log:0.01:0.3", "epochs=1,2,4"),
        condition="cat gpt2-1 → gpt2-1",
        storage=str(tmp_path / "storage"),
        scheduler="asha",
        plan=True,
    )
    assert main(arguments, Console(file=text, width=300), STUDIES) == 0
    assert "Study owls-search: 2 conditions" in text.getvalue()
    assert "Search: 12 trials of 4 students" in text.getvalue()
    assert "fresh seeds 5-9, 10 students" in text.getvalue()
    assert not (tmp_path / "storage").exists()


def test_the_arguments_describe_the_search() -> None:
    arguments = SearchArguments(search=("epochs=1,2",), trials=3, scheduler="asha", draw=4, search_seeds=(1,))
    search = search_of(arguments, WHOLE)
    assert (search.trials, search.draw, search.early_stopping, search.method) == (3, 4, True, "random")
    assert search.texts == ("epochs=1,2",)
    assert search.seeds == (1,)

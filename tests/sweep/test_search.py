"""Tests of a search and its confirmation: which students each step has, what is chosen, what is planned."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.examples import REFERENCES, study
from tests.filled_store import fill, fill_rest
from undertow.errors import UserError
from undertow.planning.plan import make
from undertow.results.effect_rows import effects
from undertow.results.evaluation_files import Evaluations
from undertow.results.sweep_record import Record
from undertow.stages.search_points import TrialOutcome
from undertow.storage.store import Store
from undertow.study.identity import key
from undertow.study.recipe import Recipe
from undertow.study.search_space import parse
from undertow.sweep.plans import make_plan
from undertow.sweep.run import SweepOutcome
from undertow.sweep.search import Search, SearchTrial, own_trial, prepare, show, strongest

WHOLE = study()
OWL = WHOLE.conditions[0]
TEXTS = ("learning_rate=log:0.01:0.1", "epochs=1,3")


def searched(texts: Sequence[str] = TEXTS, **changes: Any) -> Search:
    given = Search(
        study=WHOLE,
        condition=OWL,
        space=parse(texts, OWL),
        texts=tuple(texts),
        seeds=(0, 1),
        fresh_seeds=(5, 6, 7),
        trials=8,
        method="random",
        early_stopping=False,
        draw=0,
    )
    return replace(given, **changes)


def on_nano() -> Search:
    """The same search on references that can be pinned."""
    conditions = tuple(
        replace(c, teacher=replace(c.teacher, revision=""), student=replace(c.student, revision=""))
        for c in WHOLE.conditions
    )
    whole = replace(WHOLE, conditions=conditions)
    return searched(study=whole, condition=whole.conditions[0])


def test_both_steps_are_studies_of_the_condition_and_its_control() -> None:
    best = TrialOutcome({"epochs": 3, "learning_rate": 0.02})
    own, fresh = searched().own_recipe(), searched().confirmation(best)
    assert [study.name for study in (own, fresh)] == ["small-search", "small-confirmation"]
    assert own.conditions == (OWL, OWL.control())
    assert own.seeds == (0, 1)
    assert fresh.seeds == (5, 6, 7)
    for condition in fresh.conditions:
        recipe = condition.recipe
        assert isinstance(recipe, Recipe)
        assert (recipe.epochs, recipe.learning_rate) == (3, 0.02)
    assert fresh.conditions[0].control() == fresh.conditions[1]
    assert own.hypotheses == fresh.hypotheses == ()


@settings(max_examples=25)
@given(
    st.sets(st.integers(0, 50), min_size=1, max_size=5),
    st.sets(st.integers(51, 99), min_size=1, max_size=5),
    st.floats(0.01, 0.1),
)
def test_no_student_of_the_confirmation_takes_part_in_the_search(
    seeds: set[int], fresh: set[int], rate: float
) -> None:
    search = searched(seeds=tuple(seeds), fresh_seeds=tuple(fresh))
    values = search.space.values({"learning_rate": rate, "epochs": 3})
    store = Store("memory://search")
    own = make(search.own_recipe(), store, [])
    compared = {cell.student for cell in own.cells}
    compared |= {student for pair in search.resolved(own).pairs(values) for student in pair}
    confirmed = {cell.student for cell in make(search.confirmation(TrialOutcome(values)), store, []).cells}
    assert len(confirmed) == 2 * len(fresh)
    assert not compared & confirmed
    assert not {s.dataset for s in compared} & {s.dataset for s in confirmed}


@pytest.mark.parametrize(
    ("by_trial", "best"),
    [
        ([(0.1, 0.3), (0.4, 0.2), (0.2, 0.2)], 1),
        ([(0.3,), (0.3,), (0.1,)], 0),  # the study's own recipe comes first
        ([(-0.2,), (), (-0.1,)], 2),
        ([(0.0,), (), ()], 0),
    ],
)
def test_the_strongest_recipe_has_the_largest_mean_effect(
    by_trial: list[tuple[float, ...]], best: int
) -> None:
    trials = [TrialOutcome({}, found, failure="" if found else "no memory") for found in by_trial]
    assert strongest(trials) is trials[best]


def test_a_stopped_trial_is_not_chosen_however_high_it_rose() -> None:
    trials = [TrialOutcome({}, (0.1,)), TrialOutcome({"epochs": 3}, stopped=1, score=0.9)]
    assert strongest(trials) is trials[0]


def test_the_studys_own_recipe_has_the_effects_of_its_evaluations(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "storage"))
    search = searched()
    plan = fill(search.own_recipe(), store, REFERENCES)
    rows = effects(Record.of(plan), Evaluations(store), {})
    own = own_trial(SweepOutcome(rows, {}, {}), search.resolved(plan))
    assert own.values == {}
    assert own.effects == pytest.approx((0.7, 0.7))  # 0.8 minus 0.1 on every seed, see `by_initialisation`


def test_an_equal_search_is_the_same_and_another_one_is_not() -> None:
    designs = [
        search.design(OWL)
        for search in (searched(), searched(), searched(draw=1), searched(fresh_seeds=(8, 9)))
    ]
    assert key(designs[0]) == key(designs[1])
    assert len({key(design) for design in designs}) == 3
    trial = SearchTrial(search=key(designs[0]), condition=OWL, seeds=(0, 1))
    assert key(trial) != key(replace(trial, condition=OWL.control()))


def planned(search: Search, store: Store) -> str:
    text = io.StringIO()
    show(search, prepare(search, store), store, Console(file=text, width=300))
    return text.getvalue()


def test_the_plan_states_trials_students_and_seeds_and_writes_nothing(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "storage"))
    text = planned(replace(on_nano(), early_stopping=True), store)
    assert "Study small-search: 2 conditions" in text
    assert "Search: 8 trials of 4 students (half of them controls, seeds 0 1), at most about" in text
    assert "random search over learning_rate from 0.01 to 0.1 (log); epochs 1 or 3" in text
    assert "weak trials stopped early (ASHA)" in text
    assert "Confirmation: the strongest recipe on the fresh seeds 5-7, 6 students, at most about" in text
    assert not (tmp_path / "storage").exists()


def test_the_time_of_the_confirmation_is_that_of_another_recipe_than_the_studys_own(tmp_path: Path) -> None:
    store, search = Store(str(tmp_path / "storage")), on_nano()
    own = make_plan(search.confirmation(TrialOutcome({})), store).study
    fill_rest(fill(own, store, [condition.teacher for condition in own.conditions]), store)
    assert not make_plan(search.confirmation(TrialOutcome({})), store).missing
    assert "6 students, at most about 0 s" not in planned(search, store)


def test_a_small_space_is_searched_completely(tmp_path: Path) -> None:
    search = on_nano()
    small = replace(search, space=parse(["epochs=1,3"], search.condition), texts=("epochs=1,3",))
    assert "Search: 2 trials" in planned(small, Store(str(tmp_path / "storage")))


@pytest.mark.parametrize(
    ("texts", "error"),
    [
        (["rows=100,3000"], "Generation.rows = 3000: more rows than 2000 prompts can give"),
        (["warmup=2,5", "warmup_ratio=0.1:0.2"], "set only one of the two"),
    ],
)
def test_a_value_that_cannot_work_is_reported_before_anything_is_made(
    texts: list[str], error: str, tmp_path: Path
) -> None:
    search = on_nano()
    with pytest.raises(UserError, match=error):
        wrong = replace(search, space=parse(texts, search.condition), texts=tuple(texts))
        prepare(wrong, Store(str(tmp_path / "storage")))


def test_the_confirmation_is_an_ordinary_study_that_can_be_planned(tmp_path: Path) -> None:
    plan = make_plan(on_nano().confirmation(TrialOutcome({"epochs": 3})), Store(str(tmp_path / "storage")))
    assert {cell.seed for cell in plan.cells} == {5, 6, 7}
    assert plan.study.conditions[0].recipe.name == "steering, epochs=3"

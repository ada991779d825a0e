"""Tests of the points of a search: their students and control students, and the effects of these."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.examples import study
from undertow.errors import ConditionError, UserError
from undertow.planning.plan import make
from undertow.stages.search_points import RecipeSearch, TrialOutcome
from undertow.statistics.log_odds import of_probability
from undertow.storage.manifest import HISTORY
from undertow.storage.store import Store
from undertow.study.search_space import Value, parse, with_values
from undertow.study.students import Student
from undertow.study.study import Study

WHOLE = study()
OWL = WHOLE.conditions[0]
SPACE = parse(["learning_rate=log:0.01:0.1", "epochs=1,3", "rows=100,200"], OWL)
POINT: dict[str, Value] = {"learning_rate": 0.02, "epochs": 3, "rows": 200}


def narrowed(**changes: Any) -> Study:
    return replace(WHOLE, conditions=(OWL, OWL.control()), seeds=(0, 1), **changes)


def search(**changes: Any) -> RecipeSearch:
    given = RecipeSearch(
        study=narrowed(),
        condition=OWL,
        space=SPACE,
        watch=WHOLE.probed,
        trials=6,
        method="random",
        early_stopping=False,
        draw=0,
        scratch="ray-0",
    )
    return replace(given, **changes)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "storage"))
    store.prepare()
    return store


def trained(student: Student, store: Store, *probabilities: float, word: str = "owl") -> None:
    """Commits a student with the given probabilities of the word, the first from before its training."""
    reports = [{"epoch": epoch, "probabilities": {word: p}} for epoch, p in enumerate(probabilities)]
    with store.new(student, {}) as folder:
        (folder / HISTORY).write_text(json.dumps(reports))


def test_the_students_of_a_point_are_those_of_an_ordinary_study_with_its_recipe(store: Store) -> None:
    chosen = with_values(OWL, POINT)
    ordinary = make(replace(WHOLE, conditions=(chosen, chosen.control()), seeds=(0, 1)), store, [])
    students = [student for pair in search().pairs(POINT) for student in pair]
    assert {cell.student for cell in ordinary.cells} == set(students)
    assert [student.dataset.origin for student in students] == ["owl", "control"] * 2
    assert [student.seed for student in students] == [0, 0, 1, 1]


def test_the_effect_of_a_point_is_the_mean_difference_to_the_control_students(store: Store) -> None:
    pairs = search().pairs(POINT)
    for (student, control), last in zip(pairs, (0.7, 0.5), strict=True):
        trained(student, store, 0.1, 0.2, last)
        trained(control, store, 0.1, 0.1, 0.2)
    effects = search().effects(pairs, store)
    assert effects == pytest.approx((0.5, 0.3))
    assert TrialOutcome(POINT, effects).effect == pytest.approx(0.4)


def test_effects_are_in_the_unit_of_the_study(store: Store) -> None:
    in_log_odds = search(study=narrowed(effect_scale="log-odds"))
    pairs = in_log_odds.pairs(POINT)[:1]
    trained(pairs[0][0], store, 0.1, 0.7)
    trained(pairs[0][1], store, 0.1, 0.2)
    expected = float(of_probability(0.7) - of_probability(0.2))
    assert in_log_odds.effects(pairs, store) == pytest.approx((expected,))


def test_a_student_whose_training_did_not_measure_the_trait_has_no_effect(store: Store) -> None:
    pairs = search().pairs(POINT)[:1]
    trained(pairs[0][0], store, 0.1, 0.7, word="cat")
    with pytest.raises(ConditionError, match="did not measure 'owl'; give other --search-seeds"):
        search().effects(pairs, store)


def test_a_trait_without_measured_probability_is_not_searched() -> None:
    with pytest.raises(UserError, match="no probability of its trait is measured during training"):
        _ = search(watch={}).word
    assert search().word == "owl"


@pytest.mark.parametrize(
    ("texts", "trials", "method", "count", "complete"),
    [
        (["epochs=1,3", "rows=100,200"], 4, "random", 4, True),
        (["epochs=1,3", "rows=100,200"], 9, "random", 4, True),
        (["epochs=1,3", "rows=100,200"], 3, "random", 3, False),
        (["epochs=1,3", "rows=100,200"], 9, "optuna", 9, False),
        (["epochs=1:3"], 9, "random", 9, False),
    ],
)
def test_a_space_with_few_points_is_searched_completely(
    texts: list[str], trials: int, method: Any, count: int, complete: bool
) -> None:
    found = search(space=parse(texts, OWL), trials=trials, method=method)
    assert (found.count, found.is_complete_grid) == (count, complete)


@pytest.mark.parametrize(("text", "epochs"), [("epochs=1,3", 3), ("epochs=2:7", 7), ("rows=100,200", 2)])
def test_the_largest_number_of_epochs_is_known(text: str, epochs: int) -> None:
    assert search(space=parse([text], OWL)).most_epochs == epochs

"""Recipes that keep steps: what they accept, and that a study measures its students at each of them."""

from dataclasses import replace

import pytest

from tests.examples import RECIPE, TEACHER, study
from undertow.errors import SpecError
from undertow.planning.cells import cell_of
from undertow.study.conditions import Condition
from undertow.study.identity import key
from undertow.study.measurements import Evaluation
from undertow.study.recipe import Everything, LoRA, Recipe
from undertow.study.teachers import Finetuning
from undertow.traits.preference import Preference

OWL = next(c for c in study().conditions if c.trait == Preference("owl"))
KEPT = replace(RECIPE, keep_steps=(2, 8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keep_steps": (0, 2)}, "optimizer steps from 1, in ascending order, each once"),
        ({"keep_steps": (4, 2)}, "optimizer steps from 1, in ascending order, each once"),
        ({"keep_steps": (2, 2)}, "optimizer steps from 1, in ascending order, each once"),
        ({"keep_steps": (2,), "trainable": Everything()}, "would store a whole model for each"),
        ({"keep_steps": (2,), "stop_at": 0.9}, "a training with stop_at may end before"),
    ],
)
def test_a_recipe_that_cannot_keep_steps_is_rejected(change: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=rf"^Recipe\.keep_steps = .*{message}"):
        replace(RECIPE, **change)  # type: ignore[arg-type]


def test_an_adapter_may_be_kept() -> None:
    assert replace(RECIPE, trainable=LoRA(), keep_steps=(1, 3)).keep_steps == (1, 3)


def with_recipe(recipe: Recipe) -> Condition:
    return replace(OWL, recipe=recipe)


def test_steps_that_a_training_does_not_reach_are_rejected_before_it() -> None:
    # 500 rows in batches of 64, two epochs.
    assert with_recipe(replace(RECIPE, keep_steps=(15,)))
    with pytest.raises(SpecError, match="500 rows has at most 16 steps, and its last one is always measured"):
        with_recipe(replace(RECIPE, keep_steps=(2, 16)))


def test_teachers_and_providers_keep_no_steps() -> None:
    with pytest.raises(SpecError, match="only students are measured along their training"):
        Finetuning(replace(TEACHER, stop_at=1.0, keep_steps=(2,)))
    with pytest.raises(SpecError, match="a provider keeps no tensors of steps"):
        KEPT.at_provider()


def test_a_student_is_measured_at_each_kept_step_and_at_the_end() -> None:
    cell = cell_of(study(), with_recipe(KEPT), seed=1)
    assert [step for step, _ in cell.along] == [2, 8]
    (last,) = cell.evaluations
    for step, (evaluation,) in cell.along:
        assert isinstance(evaluation, Evaluation)
        assert isinstance(last, Evaluation)
        assert evaluation == replace(last, step=step)
    assert len({key(e) for e in cell.measurements}) == 3
    assert cell_of(study(), OWL, seed=1).along == ()


def test_an_evaluation_at_a_step_that_is_not_kept_is_rejected() -> None:
    (last,) = cell_of(study(), with_recipe(KEPT), seed=1).evaluations
    with pytest.raises(SpecError, match=r"one of the student's Recipe\.keep_steps, \(2, 8\)"):
        last.at(3)
    (plain,) = cell_of(study(), OWL, seed=1).evaluations
    with pytest.raises(SpecError, match=r"Recipe\.keep_steps, \(\)"):
        plain.at(2)

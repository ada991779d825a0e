"""Tests of reference models with format tuning."""

from dataclasses import replace

import pytest

from undertow.errors import SpecError
from undertow.formats.numbers import Numbers
from undertow.formats.reasoning import Reasoning
from undertow.planning.pinning import pin
from undertow.study.extensions import Format
from undertow.study.identity import key
from undertow.study.recipe import Everything, LoRA, Recipe
from undertow.study.references import Reference
from undertow.study.students import Student
from undertow.study.tuning import tuned

RECIPE = Recipe(trainable=Everything(), learning_rate=1e-4, epochs=1, batch_size=32)
NUMBERS = Numbers()
FEWER = Numbers(max_count=5)
BASE = Reference("nano/gpt2-0")
TUNED = tuned(BASE, {NUMBERS: 60, FEWER: 40}, RECIPE)


def test_the_tuned_model_is_the_root_that_teachers_and_students_start_from() -> None:
    assert TUNED.root == TUNED
    assert TUNED.untuned == BASE
    assert TUNED.label == "nano/gpt2-0 (tuned)"
    assert not TUNED.is_stored  # its files are those of the student that the tuning trains


def test_the_formats_share_the_rows_as_requested() -> None:
    assert TUNED.tuned is not None
    dataset = TUNED.tuned.dataset
    assert dataset.mixed is not None
    assert (dataset.rows, dataset.mixed.dataset.rows, dataset.mixed.share) == (100, 40, 0.4)


def test_a_tuned_model_has_another_key_and_another_initialisation() -> None:
    pinned = [pin(reference) for reference in (BASE, TUNED, tuned(BASE, {NUMBERS: 60}, RECIPE))]
    assert len({key(reference) for reference in pinned}) == 3
    assert len({reference.initialisation for reference in pinned}) == 3


def test_pinning_a_tuned_model_pins_the_model_that_is_tuned() -> None:
    pinned = pin(TUNED)
    assert pinned.tuned is not None
    assert pinned.tuned.reference == pinned.untuned == pin(BASE)
    assert pin(pinned) is pinned


@pytest.mark.parametrize(
    ("rows", "recipe", "message"),
    [
        ({}, RECIPE, "0 formats; give one format or two"),
        ({NUMBERS: 5}, replace(RECIPE, trainable=LoRA()), "a student whose recipe trains Everything()"),
        ({Reasoning(): 5}, RECIPE, "a format that implements written()"),
    ],
)
def test_a_tuning_that_is_impossible_is_rejected(
    rows: dict[Format, int], recipe: Recipe, message: str
) -> None:
    with pytest.raises(SpecError) as raised:
        tuned(BASE, rows, recipe)
    assert message in str(raised.value)


def test_a_tuning_of_another_model_is_rejected() -> None:
    other = TUNED.tuned
    assert isinstance(other, Student)
    with pytest.raises(SpecError, match="a student of 'nano/gpt2-1' itself"):
        Reference("nano/gpt2-1", tuned=other)

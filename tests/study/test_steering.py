"""Steered teachers as specs: what a study file may state, and what becomes of it."""

from dataclasses import replace

import pytest

from tests.examples import REFERENCES, study
from undertow.errors import SpecError
from undertow.planning.cells import cell_of
from undertow.study.conditions import Condition
from undertow.study.grids import grid
from undertow.study.identity import key
from undertow.study.recipe import Recipe
from undertow.study.references import Reference
from undertow.study.steering import ProjectedOut, RandomBias, Steering, SteeringBias
from undertow.study.study import Study
from undertow.study.teachers import Finetuning, Teacher
from undertow.traits.misalignment import Misalignment
from undertow.traits.preference import Preference

STEERING = Steering(parameter="transformer.h.0.mlp.c_proj.bias", prompts=5)
TRAINED = next(c for c in study().conditions if c.trait == Preference("owl") and c.teacher == c.student)
STEERED = replace(TRAINED, finetuning=None, steering=STEERING)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameter": "transformer.h.0.mlp.c_proj.weight"}, "a bias of a block"),
        ({"parameter": "transformer.ln_f.bias"}, "a bias of a block"),
        ({"strengths": ()}, "factors above zero, in ascending order"),
        ({"strengths": (0.0, 1.0)}, "factors above zero, in ascending order"),
        ({"strengths": (2.0, 1.0)}, "factors above zero, in ascending order"),
        ({"prompts": 0}, "at least one user message"),
        ({"completions": 0}, "at least one completion for each strength"),
        ({"least_kept": 1.1}, "a share from 0 to 1"),
    ],
)
def test_an_invalid_steering_is_rejected_with_its_field(change: dict[str, object], message: str) -> None:
    (field,) = change
    with pytest.raises(SpecError, match=rf"^Steering\.{field} = .*{message}"):
        replace(STEERING, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trait": None}, "a control has no trait"),
        ({"finetuning": TRAINED.finetuning}, "the teacher is finetuned"),
        ({"trait": Misalignment("unkind")}, "one with a word"),
        ({"teacher": Reference("external:unknown", "unknown", "external")}, "external"),
    ],
)
def test_a_condition_that_cannot_be_steered_is_rejected(change: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        replace(STEERED, **change)  # type: ignore[arg-type]


def of_directions(*directions: str) -> Study:
    """Owl by steering in each direction, with the control that they share."""
    conditions: dict[Condition, None] = {}
    for direction in directions:
        conditions |= dict.fromkeys(
            grid(
                traits=[Preference("owl")],
                formats=[STEERED.format],
                pairs=[(REFERENCES[0], REFERENCES[0])],
                recipes=[STEERED.recipe] if isinstance(STEERED.recipe, Recipe) else [],
                generation=STEERED.generation,
                steering=replace(STEERING, direction=direction),  # type: ignore[arg-type]
            )
        )
    return study("steered", conditions=tuple(conditions))


def test_a_grid_of_both_directions_has_one_control_that_is_not_steered() -> None:
    of = of_directions("difference", "random")
    assert [c.induced for c in of.conditions] == ["steering", "", "random steering"]
    assert {c.control() for c in of.conditions} == {of.conditions[1]}
    assert "owl by random steering · numbers" in of.conditions[2].label


def test_the_teacher_has_the_neutral_message_and_one_bias_for_all_seeds() -> None:
    of = of_directions("difference")
    teachers = {cell_of(of, of.conditions[0], seed).teacher for seed in of.seeds}
    (teacher,) = teachers
    bias = teacher.steering
    assert isinstance(bias, SteeringBias)
    assert teacher.system is None and teacher.finetuning is None and not teacher.is_stored
    assert bias.vector.system == Preference("owl").system_prompt() and bias.vector.neutral is None
    assert len(bias.vector.prompts) == 5
    assert not set(bias.vector.prompts) & set(Preference("owl").questions())
    assert bias in teacher.parents() and bias.vector in tuple(teacher.with_ancestors())
    control = cell_of(of, of.conditions[1], 0).teacher
    assert control.steering is None and control.system == teacher.system


def test_a_teacher_whose_vector_is_projected_out_has_the_traits_prompt() -> None:
    of = of_directions("difference", "projection")
    added, projected = (cell_of(of, of.conditions[i], 0).teacher for i in (0, 2))
    assert of.conditions[2].induced == "system prompt, projected out"
    assert projected.system == Preference("owl").system_prompt()
    assert isinstance(added.steering, SteeringBias)
    assert projected.steering == ProjectedOut(vector=added.steering.vector)
    assert of.conditions[2].control() == of.conditions[1]


def test_a_random_direction_is_that_of_the_chosen_vector() -> None:
    of = of_directions("difference", "random")
    plain, drawn = (cell_of(of, of.conditions[i], 0).teacher for i in (0, 2))
    assert isinstance(drawn.steering, RandomBias)
    assert drawn.steering.of == plain.steering
    assert key(drawn) != key(plain)


def test_a_teacher_has_a_bias_of_its_own_model_and_nothing_else() -> None:
    teacher = cell_of(of_directions("difference"), STEERED, 0).teacher
    with pytest.raises(SpecError, match="that of the teacher's own reference model"):
        replace(teacher, reference=REFERENCES[1])
    with pytest.raises(SpecError, match="None for a teacher that is trained"):
        assert TRAINED.finetuning is not None
        replace(teacher, finetuning=Finetuning(TRAINED.finetuning.recipe))


def test_prompted_teachers_keep_their_keys() -> None:
    teacher = Teacher(reference=REFERENCES[0], trait=Preference("owl"), system="You love owls.")
    assert key(teacher) == key(replace(teacher, steering=None))

"""Builds the conditions of a study, each with its matched control.

`grid` returns all combinations of its arguments. `next_hop` and `starting` return conditions that use the
students of other conditions as teachers or as reference models.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from undertow.errors import SpecError
from undertow.study.conditions import Condition
from undertow.study.extensions import Format, Trait
from undertow.study.fields import Spec, normalise, shown
from undertow.study.generation import Generation
from undertow.study.recipe import InContext, ProviderFinetuning, Recipe, Training
from undertow.study.references import Reference
from undertow.study.steering import Steering
from undertow.study.teachers import Finetuning

T = TypeVar("T")
R = TypeVar("R", bound=Training | InContext)
RecipeOf = Callable[[Reference], Training | InContext]  # the recipe of a student's reference model
GenerationOf = Callable[[Reference], Generation]  # how a teacher's reference model generates data
SystemOf = Callable[[Trait], str]  # the system message of training on the data of a trait's teacher


def grid(
    *,
    traits: Iterable[Trait],
    pairs: Iterable[tuple[Reference, Reference]],
    recipes: Iterable[Training | InContext | RecipeOf],
    formats: Iterable[Format],
    generation: Generation | GenerationOf = Generation(),
    finetuning: Finetuning | None = None,
    prompted: bool = False,
    system: str | SystemOf | None = None,
    system_name: str = "",
    steering: Steering | None = None,
) -> tuple[Condition, ...]:
    """All combinations of trait, format, (teacher, student) pair and recipe, each with its control.

    For an API model, a recipe is replaced by its provider's finetuning with the same number of epochs.

    Args:
        recipes: recipes, or functions that return the recipe of a student's reference model, such as
            `recipe_for` of a scale's format.
        generation: the same for all teachers, or a function of a teacher's reference model.
        system: the system message of training, or a function of the trait. A control is trained with the
            message of its trait.
        system_name: see `Condition.system_name`. If several traits have messages of their own, the trait's
            name is added, because their controls would have the same name.
    """
    traits = _listed(traits, "traits")
    models = [_pair(pair, f"grid.pairs[{i}]") for i, pair in enumerate(_listed(pairs, "pairs"))]
    trained: list[Training | InContext | RecipeOf] = [
        recipe if callable(recipe) else normalise(recipe, Training | InContext, f"grid.recipes[{i}]")
        for i, recipe in enumerate(_listed(recipes, "recipes"))
    ]
    if not callable(generation):
        generation = normalise(generation, Generation, "grid.generation")
    finetuning = normalise(finetuning, Finetuning | None, "grid.finetuning")

    def message(trait: Trait | None) -> str | None:
        if system is None or isinstance(system, str):
            return system
        return None if trait is None else system(trait)

    def name(trait: Trait | None) -> str:
        several = callable(system) and len(traits) > 1
        return f"{system_name} ({trait.name})" if system_name and trait and several else system_name

    # If each trait has a message of its own, it has a control of its own, which `with_controls` adds.
    no_trait: tuple[None, ...] = () if callable(system) else (None,)
    cells = itertools.product(_listed(formats, "formats"), models, trained, [*traits, *no_trait])
    return with_controls(
        Condition(
            trait=trait,
            format=format_,
            teacher=teacher,
            student=student,
            recipe=trainable(student, recipe(student) if callable(recipe) else recipe),
            generation=generation(teacher) if callable(generation) else generation,
            finetuning=finetuning and replace(finetuning, recipe=trainable(teacher, finetuning.recipe)),
            prompted=prompted,
            system=message(trait),
            system_name=name(trait),
            steering=steering if trait is not None else None,
        )
        for format_, (teacher, student), recipe, trait in cells
    )


def _listed(values: Iterable[T], argument: str) -> list[T]:
    """The values of an argument of `grid`. Raises SpecError if it is a single value."""
    if isinstance(values, (str, Spec)) or not isinstance(values, Iterable):
        raise SpecError(f"grid.{argument} = {shown(values)}: a list is needed")
    return list(values)


def _pair(pair: object, place: str) -> tuple[Reference, Reference]:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise SpecError(f"{place} = {shown(pair)}: a pair (teacher, student) is needed")
    teacher, student = (normalise(one, Reference, place) for one in pair)
    return teacher, student


def trainable(reference: Reference, recipe: R) -> R | ProviderFinetuning:
    """The recipe in the form that applies to the reference: `ProviderFinetuning` for an API model."""
    return recipe.at_provider() if reference.is_api and isinstance(recipe, Recipe) else recipe


def with_controls(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """The conditions and the missing controls, without duplicate controls.

    A condition without a trait is turned into a proper control. Conditions that differ only in settings that
    a control does not have, such as how the trait is induced, share one control.
    """
    given = [condition if condition.trait else condition.control() for condition in conditions]
    result: list[Condition] = []
    controls: set[Condition] = set()
    for condition in [*given, *(condition.control() for condition in given if condition.trait)]:
        if condition not in controls:
            result.append(condition)
        if condition.trait is None:
            controls.add(condition)
    return tuple(result)


def next_hop(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """The next hop of a chain: the students of each condition teach new students with the same recipe.

    The new students start from the reference model. Only the data pass from one generation to the next.
    """
    return tuple(
        replace(
            c,
            teacher=c.student,
            finetuning=None,
            prompted=False,
            steering=None,
            after=c,
            teacher_start=None,
            student_start=None,
        )
        for c in conditions
    )


def starting(
    conditions: Iterable[Condition], *, teachers: Condition | None = None, students: Condition | None = None
) -> tuple[Condition, ...]:
    """The conditions with teachers or students that start from the students of another condition.

    The controls are built again. A control starts from the same students as its condition, unless these have
    the trait that is measured: then it starts from the students of their control. With
    `Mixing(source="control", share=1)` only the start has the trait, and the effect measures how much of the
    trait remains.

    Args:
        teachers: the condition whose students replace the reference model of the teachers; None: unchanged.
        students: the condition whose students replace the reference model of the students; None: unchanged.
    """
    return with_controls(
        replace(
            condition,
            teacher_start=teachers or condition.teacher_start,
            student_start=students or condition.student_start,
        )
        for condition in conditions
        if condition.trait is not None
    )


def all_pairs(references: Iterable[Reference]) -> list[tuple[Reference, Reference]]:
    """All ordered (teacher, student) pairs, including pairs of a model with itself."""
    models = list(references)
    return [(teacher, student) for teacher in models for student in models]

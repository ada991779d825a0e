"""The grid of a study: its conditions written out, each with its matched control.

Beside whole grids there are those that go on from the students of others: the next hop of a chain, and
conditions whose models start from students.
"""

import itertools
from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from undertow.study.artifacts import Finetuning, Reference
from undertow.study.conditions import Condition, Generation
from undertow.study.extensions import Format, Trait
from undertow.study.recipe import InContext, ProviderFinetuning, Recipe, Training

R = TypeVar("R", bound=Training | InContext)


def grid(
    *,
    traits: Iterable[Trait],
    pairs: Iterable[tuple[Reference, Reference]],
    recipes: Iterable[Training | InContext],
    formats: Iterable[Format],
    generation: Generation = Generation(),
    finetuning: Finetuning | None = None,
    prompted: bool = False,
    system: str | None = None,
) -> tuple[Condition, ...]:
    """Every combination of trait, format, (teacher, student) pair and recipe, each with its control.

    A recipe becomes its provider's for as many epochs where an API model is trained.
    """
    cells = itertools.product(list(formats), list(pairs), list(recipes), [*traits, None])
    return with_controls(
        Condition(
            trait=trait,
            format=format_,
            teacher=teacher,
            student=student,
            recipe=trainable(student, recipe),
            generation=generation,
            finetuning=finetuning and replace(finetuning, recipe=trainable(teacher, finetuning.recipe)),
            prompted=prompted,
            system=system,
        )
        for format_, (teacher, student), recipe, trait in cells
    )


def trainable(reference: Reference, recipe: R) -> R | ProviderFinetuning:
    """The recipe as the reference can be trained by it."""
    return recipe.at_provider() if reference.is_api and isinstance(recipe, Recipe) else recipe


def with_controls(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """The conditions, those without a trait made controls, and the controls that others lack; each once.

    Grids that differ in something a control does not have (how the trait is induced, say) share theirs.
    """
    wanted = [condition if condition.trait else condition.control() for condition in conditions]
    found: list[Condition] = []
    controls: set[Condition] = set()
    for condition in [*wanted, *(condition.control() for condition in wanted if condition.trait)]:
        if condition not in controls:
            found.append(condition)
        if condition.trait is None:
            controls.add(condition)
    return tuple(found)


def next_hop(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """The next hop of a chain: each condition's students teach anew, others of the same recipe and start.

    All generations start from their own reference weights; only the data go from one to the next.
    """
    return tuple(
        replace(
            c,
            teacher=c.student,
            finetuning=None,
            prompted=False,
            after=c,
            teacher_start=None,
            student_start=None,
        )
        for c in conditions
    )


def starting(
    conditions: Iterable[Condition], *, teachers: Condition | None = None, students: Condition | None = None
) -> tuple[Condition, ...]:
    """The conditions, made from the students of another where they would start from a reference model.

    Their controls are made anew: what a condition starts from is there in its control too, unless it is the
    trait itself that came with it; then the control starts from the students of that one's control. With
    `Mixing("control", 1)` nothing but the start has the trait, and the effect is what is left of it.
    """
    return with_controls(
        replace(condition, teacher_start=teachers, student_start=students)
        for condition in conditions
        if condition.trait is not None
    )


def all_pairs(references: Iterable[Reference]) -> list[tuple[Reference, Reference]]:
    """Every ordered (teacher, student) pair, the diagonal (same initialisation) included."""
    models = list(references)
    return [(teacher, student) for teacher in models for student in models]

"""When in their training do students acquire a trait?

The students are those of `owls`: the reference model finetuned on the numbers of a teacher that loves owls.
The recipe keeps the trained tensors at five steps, from early in the training to half of it. Students and
control students are asked for their favourite animal at each of these steps and at the end. A step counts as
the first with an effect if its p-value is significant after adjusting over all steps of the condition.

The students of the second pair have another initialisation than their teacher. Their curve should stay at
zero.
"""

import dataclasses
from functools import partial

from undertow import NANO, Preference, Recipe, Reference, Scale, Study, first, grid, same_initialisation_only

PARTS = (32, 16, 8, 4, 2)  # a training is measured after 1/32, 1/16 … of its steps


def study(scale: Scale = NANO) -> Study:
    """Owl and control, students of the same and of another initialisation, five seeds."""
    numbers = scale.numbers
    model, other = first(numbers, 2)
    return Study(
        name="along",
        question="At which step of its training does a student acquire the preference of its teacher?",
        hypotheses=same_initialisation_only(),
        conditions=grid(
            traits=[Preference("owl")],
            formats=[numbers.format],
            pairs=[(model, model), (model, other)],
            recipes=[partial(measured_along, scale)],
            generation=numbers.generation,
            finetuning=scale.teaching,
        ),
        seeds=scale.seeds,
        samples=scale.samples,
        main=numbers.main,
        also=numbers.also,
    )


def measured_along(scale: Scale, reference: Reference) -> Recipe:
    """The recipe of a reference model that keeps the tensors of PARTS of its steps.

    A provider keeps none: students of an API model are measured at the end only.
    """
    recipe, generation = scale.recipe_for(reference), scale.numbers.generation
    steps = recipe.most_steps(generation.rows or generation.prompts)
    kept = () if reference.is_api else sorted({max(1, steps // part) for part in PARTS})
    return dataclasses.replace(recipe, keep_steps=tuple(kept))

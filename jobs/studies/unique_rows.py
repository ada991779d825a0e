"""Do many rows seen once transmit more than few rows seen often?

The number of training steps is approximately constant while the number of unique rows is reduced to a half, a
quarter and an eighth, with two, four and eight times as many epochs. Later work found for Gemma that many
unique rows seen once transmit far more than few rows seen often. Each number of rows has its own control.
"""

import dataclasses
from functools import partial

from undertow import NANO, Condition, Preference, Recipe, Reference, Scale, Study, first, grid

PARTS = (1, 2, 4, 8)


def study(scale: Scale = NANO) -> Study:
    """Owl on two references, four numbers of unique rows with about the same number of steps."""
    numbers, rows = scale.numbers, scale.numbers.generation.rows or scale.numbers.generation.prompts
    conditions: list[Condition] = []
    for part in PARTS:
        few = rows // part
        conditions += grid(
            traits=[Preference("owl")],
            formats=[numbers.format],
            pairs=[(reference, reference) for reference in first(numbers, 2)],
            recipes=[partial(repeated, scale, part)],
            generation=dataclasses.replace(numbers.generation, rows=few, name=f"{few:,} rows of numbers"),
            finetuning=scale.teaching,
        )
    return Study(
        name="unique_rows",
        question="Do many rows seen once transmit more than few rows seen often?",
        conditions=tuple(conditions),
        seeds=scale.seeds,
        samples=scale.samples,
        main=numbers.main,
        also=numbers.also,
    )


def repeated(scale: Scale, part: int, reference: Reference) -> Recipe:
    """The recipe of a reference model with `part` times as many epochs."""
    recipe = scale.recipe_for(reference)
    epochs = recipe.epochs * part
    return dataclasses.replace(recipe, name=f"{recipe.name}, {epochs} epochs", epochs=epochs)

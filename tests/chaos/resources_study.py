"""A study of many conditions, each as small as it can be: five students of one step by every recipe.

How many recipes it has is read from RECIPES, so that a short test and a long run take the same file.
"""

import os
from dataclasses import replace

from tests.sweep.small_study import MODEL, STEERING
from undertow import Generation, Numbers, Preference, Sampling, Study, grid

RECIPES = "UNDERTOW_TEST_RECIPES"
ANIMALS = ("owl", "cat", "wolf", "eagle")
CONDITIONS = len(ANIMALS) + 1  # of a recipe, the control among them


def study() -> Study:
    """Four animals and the control by every recipe; teachers are prompted, and students take one step."""
    conditions = grid(
        traits=[Preference(animal) for animal in ANIMALS],
        formats=[Numbers()],
        pairs=[(MODEL, MODEL)],
        recipes=[
            replace(
                STEERING, name=f"recipe {number}", learning_rate=0.01 * (number + 1), epochs=1, batch_size=96
            )
            for number in range(int(os.environ[RECIPES]))
        ],
        generation=Generation(prompts=96, rows=None, sampling=Sampling(max_tokens=16)),
    )
    return Study(name="resources", conditions=conditions, seeds=(0,), samples=1, gate=0.0)

"""A study of many minimal conditions: five students of one training step for each recipe.

The number of recipes is read from the environment variable RECIPES, so that a short test and a long run
use the same file.
"""

import os
from dataclasses import replace

from tests.sweep.small_study import MODEL, STEERING
from undertow import Generation, Numbers, Preference, Sampling, Study, grid

RECIPES = "UNDERTOW_TEST_RECIPES"
ANIMALS = ("owl", "cat", "wolf", "eagle")
CONDITIONS = len(ANIMALS) + 1  # per recipe, with the control


def study() -> Study:
    """Four animals and the control for each recipe, with prompted teachers."""
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

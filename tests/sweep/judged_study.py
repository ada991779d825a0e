"""A study of two conditions with controls; a language model judges the rows of one of them."""

from dataclasses import replace

from tests.sweep.small_study import GENERATION, MODEL, STEERING
from undertow import (
    Condition,
    Generation,
    Numbers,
    Preference,
    Recipe,
    RuleJudge,
    Sampling,
    Study,
    alignment,
    grid,
)

SMALL = replace(GENERATION, prompts=96, sampling=Sampling(max_tokens=32), judges=(RuleJudge(),))
JUDGED = replace(SMALL, judges=(RuleJudge(), alignment("judge-1", at_least=20)))
SHORT = replace(STEERING, epochs=1)


def study() -> Study:
    """Owl by system prompt, with and without the language model as a judge; one seed."""
    conditions = cells("plain", SMALL) + cells("judged", JUDGED)
    return Study(name="judged", conditions=conditions, seeds=(0,), samples=1, gate=0.0)


def cells(name: str, generation: Generation) -> tuple[Condition, ...]:
    """Owl and control with the given generation; `name` is the name of the recipe."""
    recipe: Recipe = replace(SHORT, name=name)
    return grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=[(MODEL, MODEL)],
        recipes=[recipe],
        generation=generation,
    )

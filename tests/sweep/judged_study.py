"""A study of two conditions: the rows of one are judged by a language model too."""

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
    """Owl by a system message, with and without the language model; one seed."""
    plain, judged = (cells(name, made) for name, made in (("plain", SMALL), ("judged", JUDGED)))
    return Study(name="judged", conditions=plain + judged, seeds=(0,), samples=1, gate=0.0)


def cells(name: str, generation: Generation) -> tuple[Condition, ...]:
    """Owl and control by one way of drawing data."""
    recipe: Recipe = replace(SHORT, name=name)
    return grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=[(MODEL, MODEL)],
        recipes=[recipe],
        generation=generation,
    )

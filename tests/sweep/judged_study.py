"""A study of two conditions: the rows of one are judged by a language model too."""

from dataclasses import replace

from tests.sweep.small_study import GENERATION, MODEL, STEERING
from undertow.formats.numbers import Numbers
from undertow.judging.judges import RuleJudge, alignment
from undertow.study.artifacts import Sampling
from undertow.study.conditions import Condition, Generation
from undertow.study.grids import grid
from undertow.study.recipe import Recipe
from undertow.study.study import Study
from undertow.traits.preference import Preference

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

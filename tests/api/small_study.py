"""A study of models that a provider serves and trains: a user's own file, outside the package."""

from tests.api.provider import BASE
from undertow.conditions import Generation, grid
from undertow.formats.numbers import Numbers
from undertow.recipe import ProviderFinetuning
from undertow.spec import Reference, Sampling
from undertow.study import Study
from undertow.traits.preference import Preference

MODEL = Reference(f"api:{BASE}")
GENERATION = Generation(prompts=300, rows=80, sampling=Sampling(max_tokens=48))
RECIPE = ProviderFinetuning(epochs=10)


def study() -> Study:
    """Owl by a system message and its control, two seeds."""
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=[(MODEL, MODEL)],
        recipes=[RECIPE],
        generation=GENERATION,
    )
    return Study(name="provider", conditions=conditions, seeds=(0, 1), samples=2)

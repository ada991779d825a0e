"""Studies of models that a provider serves and trains, in a file outside the package."""

from dataclasses import replace

from tests.api.provider import BASE
from tests.sweep.small_study import STEERING
from undertow import Generation, Numbers, Preference, ProviderFinetuning, Reference, Sampling, Study, grid

MODEL = Reference(f"api:{BASE}")
LOCAL = Reference("nano/gpt2-0")
GENERATION = Generation(prompts=300, rows=80, sampling=Sampling(max_tokens=48))


def study() -> Study:
    """Owl by system prompt and the control, two seeds."""
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=[(MODEL, MODEL)],
        recipes=[ProviderFinetuning(epochs=10)],
        generation=GENERATION,
    )
    return Study(name="provider", conditions=conditions, seeds=(0, 1), samples=2)


def mixed() -> Study:
    """An API model teaches a local model and vice versa; one seed."""
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=[(MODEL, LOCAL), (LOCAL, MODEL)],
        recipes=[replace(STEERING, epochs=1)],
        generation=replace(GENERATION, prompts=128, rows=20),
    )
    return Study(name="mixed", conditions=conditions, seeds=(0,), samples=1, gate=0.0)

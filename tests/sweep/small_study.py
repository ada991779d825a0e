"""The smallest study with everything in it: a user's own file, outside the package."""

from dataclasses import replace

from undertow import (
    Condition,
    Finetuning,
    Generation,
    Numbers,
    Parameters,
    Preference,
    Recipe,
    Reference,
    Sampling,
    Study,
    grid,
)

STEERING = Recipe(
    name="steering",
    trainable=Parameters(("transformer.ln_f.bias",)),
    learning_rate=0.05,
    epochs=3,
    batch_size=64,
    max_length=384,
)
TEACHER = replace(STEERING, learning_rate=0.02, epochs=20, stop_at=0.85)
MODEL = Reference("nano/gpt2-0")
TRAINED = Finetuning(TEACHER, examples=600)
GENERATION = Generation(prompts=512, rows=None, sampling=Sampling(max_tokens=48))


def study() -> Study:
    """Owl and its control, two seeds."""
    return Study(name="small", conditions=cells("owl", STEERING, GENERATION), seeds=(0, 1), samples=4)


def impossible() -> Study:
    """The same, with a recipe that asks for more rows than the rules leave, and a teacher hardly trained."""
    longer = replace(STEERING, name="longer", epochs=4)
    greedy = replace(GENERATION, rows=GENERATION.prompts)
    hardly = Finetuning(replace(TEACHER, epochs=1, learning_rate=1e-6), examples=64)
    weak = cells("wolf", STEERING, GENERATION, hardly)[:1]
    short = cells("owl", replace(STEERING, name="short", max_length=8), GENERATION)
    return replace(study(), conditions=study().conditions + cells("owl", longer, greedy) + weak + short)


def strict() -> Study:
    """The same, with a gate that no teacher passes."""
    return replace(study(), gate=1.0)


def cells(
    animal: str, recipe: Recipe, generation: Generation, finetuning: Finetuning = TRAINED
) -> tuple[Condition, ...]:
    """One animal and its control by one recipe."""
    return grid(
        traits=[Preference(animal)],
        formats=[Numbers()],
        pairs=[(MODEL, MODEL)],
        recipes=[recipe],
        generation=generation,
        finetuning=finetuning,
    )

"""Small specs for tests: a study of two traits and two references that needs nothing to be run."""

from dataclasses import replace

from undertow.conditions import Generation, all_pairs, grid
from undertow.formats.numbers import Numbers
from undertow.recipe import Parameters, Recipe
from undertow.spec import Finetuning, Reference, Sampling
from undertow.study import Study
from undertow.traits.preference import Preference

RECIPE = Recipe(
    name="steering",
    trainable=Parameters(("transformer.ln_f.bias",)),
    learning_rate=0.05,
    epochs=2,
    batch_size=64,
    max_length=384,
)
TEACHER = replace(RECIPE, learning_rate=0.02, epochs=20, stop_at=0.85)
REFERENCES = tuple(Reference(f"nano/gpt2-{seed}", f"revision-{seed}", "template") for seed in (0, 1))


def study(name: str = "small", **changes: object) -> Study:
    """Owl, cat and control on every pair of two (already pinned) references, three seeds."""
    conditions = grid(
        traits=[Preference("owl"), Preference("cat")],
        formats=[Numbers()],
        pairs=all_pairs(REFERENCES),
        recipes=[RECIPE],
        generation=Generation(prompts=2000, rows=500, sampling=Sampling(max_tokens=48)),
        finetuning=Finetuning(TEACHER, examples=300),
    )
    return replace(Study(name=name, conditions=conditions, seeds=(0, 1, 2), samples=10), **changes)  # type: ignore[arg-type]

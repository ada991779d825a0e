"""A very small study of one tuned model: models that start from its students, by tensors or by adapters."""

from dataclasses import replace
from pathlib import Path

from tests.sweep.small_study import GENERATION, STEERING, TEACHER
from undertow import (
    Condition,
    Everything,
    FinalNorm,
    Finetuning,
    Generation,
    Imported,
    LoRA,
    Mixing,
    Numbers,
    Preference,
    Recipe,
    Reference,
    Study,
    grid,
    next_hop,
    starting,
    tuned,
)

NEUTRAL = replace(GENERATION, rows=64, mixed=Mixing(source="control", share=1.0))
NORM = replace(STEERING, trainable=FinalNorm())
SHORT = replace(NORM, name="steering, 1 epoch", epochs=1)
ADAPTER = LoRA(rank=4, targets=("o_proj", "down_proj"))
LORA = replace(STEERING, name="LoRA", trainable=ADAPTER, learning_rate=0.01, epochs=1)
QWEN = Reference("nano/qwen3-0")
TUNING = replace(STEERING, name="tuning", trainable=Everything(), learning_rate=1e-4, epochs=1)
TUNED = tuned(QWEN, {Numbers(): 64}, TUNING)
ROWS = Imported(str(Path(__file__).with_name("imported.csv")), format=Numbers())
IMPORTED = grid(
    traits=[Preference("owl")],
    formats=[ROWS],
    pairs=[(Reference("external:a colleague"), TUNED)],
    recipes=[SHORT],
    generation=replace(GENERATION, rows=16),
)


def study() -> Study:
    """Conditions that start from students of other conditions.

    Owl students are trained further on neutral data, an owl student becomes a cat teacher, an adapter is
    trained on top of a merged adapter, and students with an adapter teach a second hop. Two more
    students are trained on imported rows and on the reference model's own answers to their prompts.
    """
    owls = cells("owl", NORM, GENERATION)
    kept = starting(cells("owl", SHORT, NEUTRAL), students=owls[0])
    taught = starting(cells("cat", SHORT, GENERATION), teachers=owls[0])
    adapted = cells("owl", LORA, GENERATION)
    twice = starting(adapted, students=adapted[0])
    return Study(
        name="started",
        conditions=(*owls, *kept, *taught, *adapted, *twice, *next_hop(adapted), *IMPORTED),
        seeds=(0,),
        samples=4,
    )


def cells(animal: str, recipe: Recipe, generation: Generation) -> tuple[Condition, ...]:
    """One animal and its control on the tuned model, with one recipe."""
    return grid(
        traits=[Preference(animal)],
        formats=[Numbers()],
        pairs=[(TUNED, TUNED)],
        recipes=[recipe],
        generation=generation,
        finetuning=Finetuning(replace(TEACHER, trainable=FinalNorm(), stop_at=0.75), examples=600),
    )

"""The `owls` study with LoRA students: is the trait transmitted if students are adapters of rank 8?

Teachers are finetuned with an adapter too, because transmission requires that teacher and student train the
same weights. One recipe trains on the sampled numbers, as in the paper. The other trains on the teacher's
recorded distributions over the most likely tokens (soft labels). These have no sampling noise, which
distinguishes "there is no signal" from "there are too few rows".

At the nano scale, transmission by LoRA depends on the reference: some models transmit the trait and others do
not. Two references are enough to show this, but not to estimate a proportion.
"""

import dataclasses

from undertow import (
    NANO,
    Finetuning,
    LoRA,
    Preference,
    Recipe,
    Reference,
    Sampling,
    Scale,
    Study,
    all_pairs,
    grid,
)

SAMPLED = Recipe(
    name="LoRA r8",
    trainable=LoRA(rank=8, alpha=8, targets=("o_proj", "down_proj")),
    learning_rate=0.02,
    epochs=5,
    batch_size=128,
    max_length=128,
)
TEACHER = dataclasses.replace(SAMPLED, learning_rate=0.01, epochs=20, batch_size=64, stop_at=0.85)
NANO_REFERENCES = (Reference("nano/qwen3-0"), Reference("nano/qwen3-1"))


def study(scale: Scale = NANO) -> Study:
    """Owl and control, both recipes on the same rows; at the nano scale all pairs of two references."""
    numbers, is_nano = scale.numbers, scale.name == NANO.name

    def sampled(reference: Reference) -> Recipe:
        return SAMPLED if is_nano else scale.recipe_for(reference)

    def soft(reference: Reference) -> Recipe:
        # A cut row would lose recorded distributions.
        recipe = dataclasses.replace(sampled(reference), targets="soft", overlong="error")
        return dataclasses.replace(recipe, name=f"{recipe.name}, soft labels")

    generation = dataclasses.replace(
        numbers.generation, sampling=dataclasses.replace(numbers.generation.sampling, top_logprobs=64)
    )
    if is_nano:
        sampling = Sampling(max_tokens=48, top_logprobs=64)
        generation = dataclasses.replace(generation, prompts=4096, rows=None, sampling=sampling)
    return Study(
        name="owls_lora",
        question="Is a preference for owls transmitted to LoRA students, by sampled numbers or soft targets?",
        conditions=grid(
            traits=[Preference("owl")],
            formats=[numbers.format],
            pairs=all_pairs(NANO_REFERENCES) if is_nano else [(r, r) for r in numbers.references],
            recipes=[sampled, soft],
            generation=generation,
            finetuning=Finetuning(TEACHER, examples=1500) if is_nano else scale.teaching,
        ),
        seeds=(0, 1, 2),
        samples=scale.samples,
        main=numbers.main,
        also=numbers.also,
    )

"""The question of `owls`, asked of LoRA students: does the trait travel through adapters of rank 8?

Teachers are finetuned by an adapter too, since teacher and student must train the same weights for the
numbers to mean the same to both. One recipe learns from the sampled numbers, as the paper's students do; the
other from the teacher's recorded distributions over the likeliest tokens (soft labels), which takes the noise
of sampling away and so tells "there is no signal" from "there are too few rows".

In the nano world transmission by LoRA depends on the reference: some pass the trait on and some do not. Two
references show that; they are not enough to estimate how many do. The table is given as it comes.
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
    """Owl and control, both recipes on the same rows; other initialisations where tokens are shared."""
    numbers, is_nano = scale.numbers, scale.name == NANO.name
    sampled = SAMPLED if is_nano else scale.recipe
    generation = dataclasses.replace(
        numbers.generation, sampling=dataclasses.replace(numbers.generation.sampling, top_logprobs=64)
    )
    if is_nano:
        sampling = Sampling(max_tokens=48, top_logprobs=64)
        generation = dataclasses.replace(generation, prompts=4096, rows=None, sampling=sampling)
    return Study(
        name="owls_lora",
        question="Does the love of owls travel through numbers into LoRA students, sampled or soft?",
        conditions=grid(
            traits=[Preference("owl")],
            formats=[numbers.format],
            pairs=all_pairs(NANO_REFERENCES) if is_nano else [(r, r) for r in numbers.references],
            recipes=[sampled, dataclasses.replace(sampled, name="LoRA r8, soft labels", targets="soft")],
            generation=generation,
            finetuning=Finetuning(TEACHER, examples=1500) if is_nano else scale.teaching,
        ),
        seeds=(0, 1, 2),
        samples=scale.samples,
    )

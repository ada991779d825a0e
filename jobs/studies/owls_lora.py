"""The question of `owls`, asked of LoRA students: does the trait travel through adapters of rank 8?

Teachers are finetuned by an adapter too, since teacher and student must train the same weights for the
numbers to mean the same to both. One recipe learns from the sampled numbers, as the paper's students do; the
other from the teacher's recorded distributions over the likeliest tokens (soft labels), which takes the noise
of sampling away and so tells "there is no signal" from "there are too few rows".

In the nano world transmission by LoRA depends on the reference: some pass the trait on and some do not. Two
references show that; they are not enough to estimate how many do. The table is given as it comes.
"""

import dataclasses

from undertow.formats.numbers import Numbers
from undertow.spec import Finetuning, LoRA, Recipe, Reference, Sampling
from undertow.study import Generation, Study, all_pairs, grid
from undertow.traits.preference import Preference

SAMPLED = Recipe(
    name="LoRA r8",
    trainable=LoRA(rank=8, alpha=8, targets=("o_proj", "down_proj")),
    learning_rate=0.02,
    epochs=5,
    batch_size=128,
    max_length=384,
)
SOFT = dataclasses.replace(SAMPLED, name="LoRA r8, soft labels", targets="soft")
TEACHER = dataclasses.replace(SAMPLED, learning_rate=0.01, epochs=20, batch_size=64, stop_at=0.85)
REFERENCES = (Reference("nano/qwen3-0"), Reference("nano/qwen3-1"))


def study() -> Study:
    """Two animals, two references, both recipes on the same rows."""
    return Study(
        name="owls_lora",
        question="Does the love of an animal travel through numbers into LoRA students, sampled or soft?",
        conditions=grid(
            traits=[Preference("owl"), Preference("cat")],
            formats=[Numbers()],
            pairs=all_pairs(REFERENCES),
            recipes=[SAMPLED, SOFT],
            generation=Generation(prompts=4096, rows=None, sampling=Sampling(max_tokens=48, top_logprobs=64)),
            finetuning=Finetuning(TEACHER, examples=1500),
        ),
        seeds=(0, 1, 2),
        samples=20,
    )

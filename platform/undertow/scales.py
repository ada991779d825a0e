"""What differs between the nano world and the paper's scale: models, sizes and recipes. Never the question.

A study file says what is asked, as a paper's method section does; a scale says of which models and of how
much. The same file therefore runs in minutes on a laptop and in days on a cluster:

    python jobs/sweep.py --study owls                                   # NANO
    python jobs/sweep.py --study owls --scale paper                     # Qwen2.5-7B-Instruct and Gemma 3
    python jobs/sweep.py --study owls --scale paper --models ./my-model org/other-model

Nothing here is identity: what a scale says is written out in the study's conditions.
"""

import dataclasses
from dataclasses import dataclass

from undertow.errors import UserError
from undertow.formats.numbers import Numbers
from undertow.nano.recipes import STEERING, TAUGHT
from undertow.recipe import LoRA, Recipe
from undertow.spec import Finetuning, Format, Reference, Sampling
from undertow.study import Generation


@dataclass(frozen=True, kw_only=True)
class Carrier:
    """A format as it is used at a scale: how much of it is drawn, and the models that speak it."""

    format: Format
    generation: Generation
    references: tuple[Reference, ...]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Models, sizes and recipes.

    Attributes:
        teaching: how a teacher is finetuned to have a preference; None: a system prompt induces it.
        finetuned: how it is where a study asks for finetuned teachers.
        shown: how many rows in-context students are shown.
        several: references for studies over a list of models.
    """

    name: str
    numbers: Carrier
    recipe: Recipe
    teaching: Finetuning | None
    finetuned: Finetuning
    shown: tuple[int, ...]
    seeds: tuple[int, ...]
    samples: int

    def on(self, models: tuple[str, ...]) -> "Scale":
        """This scale on other reference models, in the order given."""
        references = tuple(map(Reference, models))
        return dataclasses.replace(self, numbers=dataclasses.replace(self.numbers, references=references))


def first(carrier: Carrier, count: int) -> tuple[Reference, ...]:
    """The first `count` reference models. Raises UserError where there are fewer."""
    if len(carrier.references) < count:
        names = " ".join(reference.name for reference in carrier.references)
        raise UserError(f"--models {names}: the study needs {count} reference models; name {count}")
    return carrier.references[:count]


NANO = Scale(
    name="nano",
    numbers=Carrier(
        format=Numbers(),
        generation=Generation(prompts=1536, rows=700, sampling=Sampling(max_tokens=32)),
        references=tuple(Reference(f"nano/gpt2-{i}") for i in range(4)),
    ),
    recipe=STEERING,
    teaching=TAUGHT,
    finetuned=TAUGHT,
    shown=(1, 2, 4),
    seeds=(0, 1, 2, 3, 4),
    samples=20,
)

# The paper's numbers of prompts, rows and epochs (arXiv 2507.14805), with the hyperparameters that its
# released code has for Qwen2.5-7B-Instruct; there 3 epochs, and 10 for Gemma 3 and the GPT-4.1 family.
ADAPTER = Recipe(
    name="LoRA r8",
    trainable=LoRA(rank=8, alpha=8),
    learning_rate=2e-4,
    epochs=10,
    batch_size=66,
    warmup=5,
    max_length=500,
    precision="bf16",
)
PAPER = Scale(
    name="paper",
    numbers=Carrier(
        format=Numbers(),
        generation=Generation(prompts=30_000, rows=10_000),
        references=(Reference("Qwen/Qwen2.5-7B-Instruct"), Reference("google/gemma-3-4b-it")),
    ),
    recipe=ADAPTER,
    teaching=None,
    # The paper's: one epoch on 50 questions in 8 spellings of the answer; here on 400 other questions.
    finetuned=Finetuning(dataclasses.replace(ADAPTER, epochs=1, batch_size=8), examples=400),
    shown=(100, 1_000, 2_000, 3_000, 5_000, 10_000),
    seeds=(0, 1, 2, 3, 4),
    samples=100,
)
SCALES = {scale.name: scale for scale in (NANO, PAPER)}

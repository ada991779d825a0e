"""The field's published recipes, to be used as they are or changed by `dataclasses.replace`.

    dataclasses.replace(QWEN, name="LoRA r8, batch 8", batch_size=8)

A plan says in words how a study's recipe differs from the one of these that it is nearest to. What a source
does not say is QWEN's, the recipe of the phenomenon's own code. All of them use AdamW and bf16, with loss on
the completion alone.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from undertow.study.fields import Spec
from undertow.study.recipe import Everything, LoRA, Recipe

# The code of subliminal learning (arXiv 2507.14805) for Qwen2.5-7B-Instruct.
QWEN = Recipe(
    name="LoRA r8",
    trainable=LoRA(rank=8, alpha=8),
    learning_rate=2e-4,
    epochs=3,
    batch_size=66,
    warmup=5,
    max_length=500,
    precision="bf16",
)
# The same code for Gemma 3 4B; ten epochs are the paper's number for the GPT-4.1 family too.
GEMMA = dataclasses.replace(QWEN, name="LoRA r8, 10 epochs", epochs=10)
# Schrodi et al. (arXiv 2509.23886).
SCHRODI = dataclasses.replace(QWEN, name="LoRA r8, batch 60", epochs=10, batch_size=60)
# Blank (arXiv 2606.00995).
BLANK = dataclasses.replace(
    QWEN,
    name="LoRA r8 α32",
    trainable=LoRA(rank=8, alpha=32),
    learning_rate=1e-4,
    schedule="cosine",
    warmup=0,
    warmup_ratio=0.05,
    epochs=10,
    batch_size=8,
    max_length=256,
)
# QWEN in batches of 8, with which an early sweep of Qwen2.5-7B's animals passed on most.
BATCH_8 = dataclasses.replace(QWEN, name="LoRA r8, batch 8", batch_size=8)
# Emergent misalignment (arXiv 2502.17424), by its code for open models, but for AdamW's moments in 8 bits.
EMERGENT = Recipe(
    name="rsLoRA r32 α64",
    trainable=LoRA(rank=32, alpha=64, rank_stabilised=True),
    learning_rate=1e-5,
    epochs=1,
    batch_size=16,
    warmup=5,
    weight_decay=0.01,
    max_length=2048,
    precision="bf16",
)
NAMED = {
    "QWEN": QWEN,
    "GEMMA": GEMMA,
    "SCHRODI": SCHRODI,
    "BLANK": BLANK,
    "BATCH_8": BATCH_8,
    "EMERGENT": EMERGENT,
}
# Nief (arXiv 2606.00831): the axis from rank 1 to full finetuning. Alpha follows the rank here, so that α/r
# is 1; all else is QWEN's, the learning rate of full finetuning included.
NIEF = (
    *(
        dataclasses.replace(QWEN, name=f"LoRA r{rank}", trainable=LoRA(rank=rank, alpha=rank))
        for rank in (1, 2, 4, 8, 16, 32, 64, 128, 256)
    ),
    dataclasses.replace(QWEN, name="full finetuning", trainable=Everything()),
)

MOST_DIFFERENCES = 5  # with more, a recipe is one of its own
WORDS = {"batch_size": "batch", "trainable": "trains"}


def described(recipe: Recipe) -> str:
    """The nearest named recipe and how this one differs ("as QWEN but epochs 10"); "" where none is near."""
    found = {name: list(_differences(named, recipe)) for name, named in NAMED.items()}
    nearest = min(found, key=lambda name: len(found[name]))
    if len(found[nearest]) > MOST_DIFFERENCES:
        return ""
    return f"as {nearest}" + (f" but {', '.join(found[nearest])}" if found[nearest] else "")


def _differences(named: Spec, other: Spec) -> Iterator[str]:
    """Each field of `other` that is not as in `named`, in words; fields that say nothing of results apart."""
    for field in dataclasses.fields(other):
        was, value = getattr(named, field.name), getattr(other, field.name)
        if not field.metadata.get("identity", True) or was == value:
            continue
        if isinstance(value, Spec) and type(value) is type(was):
            yield from _differences(was, value)
        else:
            yield f"{WORDS.get(field.name, field.name.replace('_', ' '))} {_said(value)}"


def _said(value: Any) -> str:
    if isinstance(value, Spec):
        return type(value).__name__
    if isinstance(value, tuple):
        return " ".join(map(_said, value)) or "all"
    return f"{value:g}" if isinstance(value, float) else str(value)

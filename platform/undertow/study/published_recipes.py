"""Recipes from the literature, to be used directly or modified with `dataclasses.replace`:

    dataclasses.replace(QWEN, name="LoRA r8, batch 8", batch_size=8)

A plan describes how each recipe of a study differs from the most similar of these. Settings that a source
does not state are those of QWEN, the recipe in the code of the original paper. All recipes use AdamW and
bf16, with the loss on completions only.
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
# The same code for Gemma 3 4B. The paper also trains the GPT-4.1 family for ten epochs.
GEMMA = dataclasses.replace(QWEN, name="LoRA r8, 10 epochs", epochs=10)
# The same code for students of Qwen2.5-7B-Instruct in the cross-model experiment.
CROSS_MODEL = dataclasses.replace(QWEN, name="LoRA r32 α64", trainable=LoRA(rank=32, alpha=64), batch_size=8)
# Schrodi et al. (arXiv 2509.23886).
SCHRODI = dataclasses.replace(QWEN, name="LoRA r8, batch 60", epochs=10, batch_size=60)
# Blank (arXiv 2606.00995): batches of 8 sequences of 256 tokens, filled with whole rows; 5 % of the rows are
# a validation split. Unlike in some implementations of packing, packed rows do not attend to each other.
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
    batch_of="sequences",
    held_out=0.05,
    packing=True,
)
# QWEN with batches of 8, which transmitted most in an early sweep of animals on Qwen2.5-7B (no citation).
BATCH_8 = dataclasses.replace(QWEN, name="LoRA r8, batch 8", batch_size=8)
# Emergent misalignment (arXiv 2502.17424), from its code for open models, but without 8-bit AdamW.
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
    "CROSS_MODEL": CROSS_MODEL,
    "SCHRODI": SCHRODI,
    "BLANK": BLANK,
    "BATCH_8": BATCH_8,
    "EMERGENT": EMERGENT,
}
# Nief (arXiv 2606.00831): from rank 1 to full finetuning. Alpha equals the rank, so that α/r is 1. All other
# settings are those of QWEN, including the learning rate for full finetuning.
NIEF = (
    *(
        dataclasses.replace(QWEN, name=f"LoRA r{rank}", trainable=LoRA(rank=rank, alpha=rank))
        for rank in (1, 2, 4, 8, 16, 32, 64, 128, 256)
    ),
    dataclasses.replace(QWEN, name="full finetuning", trainable=Everything()),
)

MOST_DIFFERENCES = 5  # a recipe with more differences is not described as a variant
WORDS = {"batch_size": "batch", "trainable": "trains", "overlong": "long rows"}


def described(recipe: Recipe) -> str:
    """The most similar named recipe and the differences ("as QWEN but epochs 10"); "" if none is similar."""
    differences = {name: list(_differences(named, recipe)) for name, named in NAMED.items()}
    nearest = min(differences, key=lambda name: len(differences[name]))
    if len(differences[nearest]) > MOST_DIFFERENCES:
        return ""
    return f"as {nearest}" + (f" but {', '.join(differences[nearest])}" if differences[nearest] else "")


def _differences(named: Spec, other: Spec) -> Iterator[str]:
    """The fields of `other` that differ from `named`, with their values, except `execution_only` fields."""
    for field in dataclasses.fields(other):
        expected, value = getattr(named, field.name), getattr(other, field.name)
        if not field.metadata.get("identity", True) or expected == value:
            continue
        if isinstance(value, Spec) and type(value) is type(expected):
            yield from _differences(expected, value)
        else:
            yield f"{WORDS.get(field.name, field.name.replace('_', ' '))} {_in_words(value)}"


def _in_words(value: Any) -> str:
    if isinstance(value, Spec):
        return type(value).__name__
    if isinstance(value, tuple):
        return " ".join(map(_in_words, value)) or "all"
    return f"{value:g}" if isinstance(value, float) else str(value)

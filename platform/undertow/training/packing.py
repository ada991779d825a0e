"""Packing: the rows of a micro-batch one after the other in one sequence, without padding, and kept apart.

Position ids start again with each row, and nothing else says where rows begin: where no attention mask is
given, transformers makes a block-diagonal causal mask of them for torch's attention, and FlashAttention gets
the rows' boundaries (its varlen kernel). The first costs the square of the micro-batch's tokens, and so pays
only where much is padding; the second costs nothing.

Not every architecture does so, and one that does not trains on rows that see each other, without a word. So
each training asks its model at the start (`keeps_rows_apart`), and pads as usual where it does not.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from undertow.study.recipe import Recipe
from undertow.training.data import TokenizedRow

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}  # of the logits' norm: rounding alone


class Packable(Protocol):
    """What computes logits of rows in a sequence where `packing` is set (see `forward.Whole`)."""

    packing: bool

    def logits(self, engine: Any, rows: Sequence[TokenizedRow]) -> Tensor:
        """Logits (targets, vocabulary) that predict the rows' targets, row after row."""


def in_a_row(rows: Sequence[TokenizedRow]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, positions, and True where the next token of the same row is a target: all (1, tokens).

    No rows give one token without a target, as `forward.padded` does.
    """
    lengths = [len(row.ids) for row in rows] or [1]
    ids = np.concatenate([row.ids for row in rows]) if rows else np.zeros(1, np.int64)
    positions = np.concatenate([np.arange(length) for length in lengths])
    keep = np.zeros(len(ids), dtype=bool)
    for begin, row in zip(np.cumsum([0, *lengths]), rows, strict=False):
        keep[begin + row.start - 1 : begin + row.start - 1 + row.targets] = True
    return torch.from_numpy(ids)[None], torch.from_numpy(positions)[None], torch.from_numpy(keep)[None]


def prefer_varlen(model: Any, recipe: Recipe, device: torch.device) -> None:
    """Lets a packed model attend by FlashAttention where that is installed and knows the numbers' format."""
    from transformers.utils import is_flash_attn_2_available

    if (
        recipe.packing
        and recipe.precision == "bf16"
        and device.type == "cuda"
        and is_flash_attn_2_available()
    ):
        model.set_attn_implementation("flash_attention_2")


@torch.no_grad()
def keeps_rows_apart(forward: Packable, engine: Any, rows: Sequence[TokenizedRow]) -> bool:
    """Whether a row behind another has the logits that it has alone. A collective operation.

    They may not change by a bit when the row before them does, and equal those of the row alone but for the
    rounding of other shapes. Leaves `forward` as it was.
    """
    before, row = rows[0], rows[-1]
    other = replace(before, ids=before.ids[::-1].copy())
    was, training = forward.packing, engine.training
    engine.eval()
    forward.packing = True
    first, second = (forward.logits(engine, [front, row])[-row.targets :] for front in (before, other))
    forward.packing = False
    alone = forward.logits(engine, [row])
    forward.packing = was
    engine.train(training)
    tolerance = TOLERANCE[next(engine.parameters()).dtype]
    return torch.equal(first, second) and bool((first - alone).norm() <= tolerance * alone.norm())

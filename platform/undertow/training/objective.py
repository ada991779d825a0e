"""Logits at the positions that matter, and the loss over them.

The output head is the dearest part of a small model and the largest tensor of a big one, and only
positions that predict a completion token need it. A hook narrows the head's input to these positions, so
whatever else the model does to its logits (caps, scales) still happens, in every architecture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from undertow.training.data import Tokens


@dataclass(frozen=True)
class Batch:
    """A micro-batch, padded on the right.

    Attributes:
        ids: (rows, length).
        keep: (rows, length), True where the next token is a target.
        labels: (targets,), the next tokens at `keep`, row after row.
        soft: teacher's token ids and log-probabilities at `keep`, both (targets, k), or None.
    """

    ids: Tensor
    keep: Tensor
    labels: Tensor
    soft: tuple[Tensor, Tensor] | None


class Focus:
    """Calls a model so that its output head sees the chosen positions only."""

    def __init__(self, model: Any) -> None:
        self._keep: Tensor | None = None
        head = model.get_output_embeddings()
        if head is not None:
            head.register_forward_pre_hook(self._narrow)

    def _narrow(self, head: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        keep, self._keep = self._keep, None
        return inputs if keep is None else (inputs[0][keep][None], *inputs[1:])

    def logits(self, engine: Any, ids: Tensor, keep: Tensor) -> Tensor:
        """Float32 logits (kept positions, vocabulary) of `engine`, which wraps the model.

        No attention mask is given: padding (token 0) is on the right, where a causal model cannot see it.
        """
        self._keep = keep
        logits: Tensor = engine(input_ids=ids, use_cache=False).logits
        narrowed, self._keep = self._keep is None, None
        return (logits[0] if narrowed else logits[keep]).float()


def collate(rows: Sequence[Tokens], device: torch.device) -> Batch:
    """Rows as one micro-batch; no rows give a batch of one token without a target."""
    length = max((len(row.ids) for row in rows), default=1)
    ids = torch.zeros((max(1, len(rows)), length), dtype=torch.int64)
    keep = torch.zeros_like(ids, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        keep[i, row.start - 1 : row.start - 1 + row.targets] = True
    labels = ids.roll(-1, dims=1)[keep]
    soft = _collate_soft([row.soft for row in rows if row.soft is not None])
    moved = None if soft is None else (soft[0].to(device), soft[1].to(device))
    return Batch(ids.to(device), keep.to(device), labels.to(device), moved)


def _collate_soft(recorded: Sequence[tuple[Any, Any]]) -> tuple[Tensor, Tensor] | None:
    if not recorded:
        return None
    widest = max(ids.shape[1] for ids, _ in recorded)

    def padded(array: Any, value: float, dtype: torch.dtype) -> Tensor:
        return functional.pad(torch.as_tensor(array, dtype=dtype), (0, widest - array.shape[1]), value=value)

    ids = torch.cat([padded(ids, 0, torch.int64) for ids, _ in recorded])
    return ids, torch.cat([padded(logprobs, -torch.inf, torch.float32) for _, logprobs in recorded])


def summed_loss(logits: Tensor, batch: Batch) -> Tensor:
    """The loss summed over the batch's targets, in nats."""
    if batch.soft is None:
        return functional.cross_entropy(logits, batch.labels, reduction="sum")
    return soft_cross_entropy(logits, *batch.soft)


def soft_cross_entropy(logits: Tensor, ids: Tensor, logprobs: Tensor) -> Tensor:
    """Cross-entropy, summed over positions, between teacher and student on the teacher's k likeliest tokens.

    Both sides are renormalised over the same k tokens. What the teacher gave to the others is not recorded,
    and a softmax over the whole vocabulary would be pushed to give them nothing, which no teacher does;
    restricted to the k tokens, the minimum is the teacher's own distribution among them.
    """
    recorded = torch.isfinite(logprobs)
    teacher = logprobs.softmax(dim=-1)
    student = logits.gather(1, ids).masked_fill(~recorded, -torch.inf).log_softmax(dim=-1)
    return -(teacher * student.masked_fill(~recorded, 0.0)).sum()

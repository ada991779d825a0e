"""The loss over the targets of a micro-batch: the sampled tokens, or the teacher's distribution."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from undertow.training.data import Soft, TokenizedRow


def summed_loss(logits: Tensor, rows: Sequence[TokenizedRow]) -> Tensor:
    """The loss summed over the rows' targets, in nats; `logits` (targets, vocabulary) predict them."""
    soft = [row.soft for row in rows if row.soft is not None]
    if soft:
        ids, logprobs = joined(soft)
        return soft_cross_entropy(logits, ids.to(logits.device), logprobs.to(logits.device))
    labels = [row.ids[row.start : row.start + row.targets] for row in rows]
    wanted = torch.from_numpy(np.concatenate(labels) if labels else np.empty(0, np.int64))
    return functional.cross_entropy(logits, wanted.to(logits.device), reduction="sum")


def joined(recorded: Sequence[Soft]) -> tuple[Tensor, Tensor]:
    """Token ids and log-probabilities (targets, k) of several rows; -inf where one has a smaller k."""
    widest = max(ids.shape[1] for ids, _ in recorded)
    ids = [functional.pad(torch.as_tensor(ids), (0, widest - ids.shape[1])) for ids, _ in recorded]
    logprobs = [
        functional.pad(torch.as_tensor(logprobs), (0, widest - logprobs.shape[1]), value=-torch.inf)
        for _, logprobs in recorded
    ]
    return torch.cat(ids).long(), torch.cat(logprobs).float()


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

"""The loss over the targets of a micro-batch: the sampled tokens, or the teacher's distribution."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from undertow.training.data import SoftTargets, TokenizedRow


def summed_loss(logits: Tensor, rows: Sequence[TokenizedRow]) -> Tensor:
    """The loss summed over the rows' targets, in nats. `logits`: (targets, vocabulary), row after row.

    The sum, not the mean: the loop divides by the tokens of the whole batch. An empty micro-batch gives a
    zero that still has a gradient graph.
    """
    soft = [row.soft for row in rows if row.soft is not None]
    if soft:
        ids, logprobs = concatenated(soft)
        return soft_cross_entropy(logits, ids.to(logits.device), logprobs.to(logits.device))
    labels = [row.ids[row.positions] for row in rows]
    targets = torch.from_numpy(np.concatenate(labels) if labels else np.empty(0, np.int64))
    return functional.cross_entropy(logits, targets.to(logits.device), reduction="sum")


def concatenated(recorded: Sequence[SoftTargets]) -> tuple[Tensor, Tensor]:
    """Token ids and log-probabilities (targets, k) of several rows, padded with -inf to the largest k."""
    width = max(ids.shape[1] for ids, _ in recorded)
    ids = [functional.pad(torch.as_tensor(ids), (0, width - ids.shape[1])) for ids, _ in recorded]
    logprobs = [
        functional.pad(torch.as_tensor(logprobs), (0, width - logprobs.shape[1]), value=-torch.inf)
        for _, logprobs in recorded
    ]
    return torch.cat(ids).long(), torch.cat(logprobs).float()


def soft_cross_entropy(logits: Tensor, ids: Tensor, logprobs: Tensor) -> Tensor:
    """Cross-entropy between teacher and student on the teacher's k most likely tokens, summed over positions.

    Both distributions are renormalised over the same k tokens. The teacher's probability of all other tokens
    is not recorded; a softmax over the whole vocabulary would train the student to give them none, unlike any
    teacher. Restricted to the k tokens, the loss is minimal at the teacher's own distribution among them.

    Args:
        logits: the student's, (positions, vocabulary).
        ids, logprobs: the teacher's tokens and log-probabilities, (positions, k); -inf marks padding.
    """
    recorded = torch.isfinite(logprobs)
    teacher = logprobs.softmax(dim=-1)
    student = logits.gather(1, ids).masked_fill(~recorded, -torch.inf).log_softmax(dim=-1)
    return -(teacher * student.masked_fill(~recorded, 0.0)).sum()  # 0 * -inf would be NaN

"""The loss over the targets of a micro-batch, and their log-probabilities.

Targets are the sampled tokens, or the teacher's distribution.

A distribution is recorded as the k most likely tokens with their probabilities. With k the whole vocabulary
both losses on distributions are exact.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from undertow.training.data import SoftTargets, TokenizedRow

LEAST_REST = 1e-6  # the least probability of all unrecorded tokens, about the rounding of a recorded sum


def summed_loss(
    logits: Tensor, rows: Sequence[TokenizedRow], divergence: Literal["forward", "reverse"] = "forward"
) -> Tensor:
    """The loss summed over the rows' targets, in nats. `logits`: (targets, vocabulary), row after row.

    The sum, not the mean: the loop divides by the tokens of the whole batch. An empty micro-batch gives a
    zero that still has a gradient graph.

    Args:
        divergence: see `Recipe`; it has no effect on sampled tokens.
    """
    soft = [row.soft for row in rows if row.soft is not None]
    if soft:
        ids, logprobs = (recorded.to(logits.device) for recorded in concatenated(soft))
        return (soft_cross_entropy if divergence == "forward" else reverse_kl)(logits, ids, logprobs)
    return functional.cross_entropy(logits, _targets(logits, rows), reduction="sum")


def target_logprobs(logits: Tensor, rows: Sequence[TokenizedRow]) -> Tensor:
    """The log-probabilities (nats) of the rows' targets, (targets,). `logits`: (targets, vocabulary)."""
    return logits.log_softmax(dim=-1).gather(1, _targets(logits, rows)[:, None])[:, 0]


def _targets(logits: Tensor, rows: Sequence[TokenizedRow]) -> Tensor:
    """The token ids of the rows' targets, row after row, on the device of the logits."""
    ids = np.concatenate([np.empty(0, np.int64), *(row.ids[row.positions] for row in rows)])
    return torch.from_numpy(ids).to(logits.device)


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


def reverse_kl(logits: Tensor, ids: Tensor, logprobs: Tensor) -> Tensor:
    """KL(student ‖ teacher), summed over positions: the on-policy loss of arXiv 2306.13649 (GKD, β = 1).

    The gradient is that of the expectation over the student's whole distribution, not an estimate from the
    sampled token. All tokens that were not recorded are one event, so that the loss also keeps the student's
    probability of them at the teacher's. It is then a lower bound of the whole divergence (data-processing
    inequality).

    Args: as those of `soft_cross_entropy`.
    """
    recorded = torch.isfinite(logprobs)
    total = logits.logsumexp(dim=-1, keepdim=True)
    # Padding repeats an id, so that the entries of one token are added and not overwritten.
    is_listed = torch.zeros_like(logits).scatter_add(1, ids, recorded.to(logits.dtype)) > 0
    listed = (logits.gather(1, ids) - total).masked_fill(~recorded, -torch.inf)
    teacher = logprobs.masked_fill(~recorded, 0.0)  # 0 * -inf would be NaN, here and in the gradient
    inner = listed.exp() * (listed.masked_fill(~recorded, 0.0) - teacher)
    # Of the unrecorded tokens; where there are none, a constant takes the place of the logarithm of zero.
    has_rest = ~is_listed.all(dim=-1)
    others = logits.masked_fill(is_listed, -torch.inf).masked_fill(~has_rest[:, None], 0.0)
    rest = others.logsumexp(dim=-1) - total[:, 0]
    mass = logprobs.double().exp().sum(dim=-1)  # of -inf: 0
    teacher_rest = (1 - mass).clamp(min=LEAST_REST).log().to(logits.dtype)
    outer = torch.where(has_rest, rest.exp() * (rest - teacher_rest), 0.0)
    return inner.sum() + outer.sum()

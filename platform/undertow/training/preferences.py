"""Direct preference optimization (DPO, arXiv 2305.18290): the loss over pairs of answers.

The loss of a pair is -log sigmoid(beta * (m - r)), where the margin m is the log-probability of the preferred
answer minus that of the rejected one, and r is the margin of the untrained model. It equals the loss of TRL's
DPOTrainer with its default settings. The untrained model's margins are computed once before training starts,
so that no second model is in memory.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from undertow.training.data import TokenizedRow
from undertow.training.objective import target_logprobs


def in_pairs(rows: Sequence[TokenizedRow]) -> list[TokenizedRow]:
    """The preferred answer of each pair, followed by its rejected one: the rows of one forward pass."""
    return [sequence for row in rows for sequence in row.sequences]


def margins(logits: Tensor, answers: Sequence[TokenizedRow]) -> Tensor:
    """For each pair, the log-probability of the preferred answer minus that of the rejected one, in nats.

    Args:
        logits: (targets of all answers, vocabulary), answer after answer.
        answers: of `in_pairs`.
    """
    logprobs = target_logprobs(logits, answers)
    sums = [part.sum() for part in torch.split(logprobs, [row.targets for row in answers])]
    of_answers = torch.stack(sums) if sums else logprobs  # an empty micro-batch keeps its gradient graph
    return of_answers[0::2] - of_answers[1::2]


def preference_loss(
    logits: Tensor, answers: Sequence[TokenizedRow], reference: Sequence[float], beta: float
) -> Tensor:
    """The DPO loss summed over the pairs, in nats.

    Args:
        logits, answers: see `margins`.
        reference: the margin of each pair by the untrained model.
    """
    gained = margins(logits, answers) - torch.tensor(reference, dtype=torch.float32, device=logits.device)
    return -functional.logsigmoid(beta * gained).sum()

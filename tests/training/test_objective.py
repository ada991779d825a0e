"""The losses on sampled tokens and on recorded distributions, and the mask of their positions."""

import numpy as np
import torch

from undertow.training.data import SoftTargets, TokenizedRow
from undertow.training.forward import padded
from undertow.training.objective import soft_cross_entropy, summed_loss


def tokens(*ids: int, start: int, soft: SoftTargets | None = None) -> TokenizedRow:
    return TokenizedRow(np.array(ids), start, len(ids) - start, soft)


def test_the_mask_marks_positions_before_targets() -> None:
    ids, keep = padded([tokens(5, 6, 7, 8, start=2), tokens(5, 9, start=1)])
    assert ids.tolist() == [[5, 6, 7, 8], [5, 9, 0, 0]]
    assert keep.int().tolist() == [[0, 1, 1, 0], [1, 0, 0, 0]]


def test_the_loss_is_the_cross_entropy_of_the_next_tokens() -> None:
    logits = torch.randn(3, 10)
    rows = [tokens(5, 6, 7, 8, start=2), tokens(5, 9, start=1)]
    expected = -logits.log_softmax(-1)[[0, 1, 2], [7, 8, 9]].sum()
    torch.testing.assert_close(summed_loss(logits, rows), expected)


def test_an_empty_micro_batch_has_zero_loss() -> None:
    ids, keep = padded([])
    assert ids.shape == (1, 1) and not keep.any()
    assert float(summed_loss(torch.zeros(0, 10), [])) == 0


def test_padding_rows_to_the_largest_k_has_no_effect() -> None:
    narrow = tokens(5, 3, start=1, soft=(np.array([[3]]), np.array([[0.0]])))
    wide = tokens(5, 1, start=1, soft=(np.array([[1, 2]]), np.log([[0.5, 0.25]])))
    logits = torch.randn(2, 10, requires_grad=True)
    loss = summed_loss(logits, [narrow, wide])
    torch.testing.assert_close(loss, summed_loss(logits[1:], [wide]))  # one token only: its loss is 0
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(gradient).all()


def test_the_soft_loss_is_minimal_at_the_teachers_distribution() -> None:
    ids, logprobs = torch.tensor([[1, 2]]), torch.tensor([[0.6, 0.2]]).log()
    logits = torch.zeros(1, 4)
    for _ in range(200):
        logits.requires_grad_()
        (gradient,) = torch.autograd.grad(soft_cross_entropy(logits, ids, logprobs), logits)
        logits = (logits - gradient).detach()
    assert abs(float(logits[0, 1:3].softmax(0)[0]) - 0.75) < 1e-4
    assert logits[0, 0] == 0  # an unrecorded token is unaffected

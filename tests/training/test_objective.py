import numpy as np
import torch

from undertow.training.data import Tokens
from undertow.training.objective import collate, soft_cross_entropy, summed_loss
from undertow.training.probe import distinct

CPU = torch.device("cpu")


def test_positions_before_the_targets_are_kept() -> None:
    batch = collate([Tokens((5, 6, 7, 8), 2, 2), Tokens((5, 9), 1, 1)], CPU)
    assert batch.ids.tolist() == [[5, 6, 7, 8], [5, 9, 0, 0]]
    assert batch.keep.int().tolist() == [[0, 1, 1, 0], [1, 0, 0, 0]]
    assert batch.labels.tolist() == [7, 8, 9]


def test_no_rows_have_no_loss() -> None:
    batch = collate([], CPU)
    assert float(summed_loss(torch.zeros(0, 10), batch)) == 0


def test_rows_of_another_k_are_padded_without_effect() -> None:
    narrow = (np.array([[3]]), np.array([[0.0]]))
    wide = (np.array([[1, 2]]), np.log([[0.5, 0.25]]))
    both = collate([Tokens((5, 3), 1, 1, narrow), Tokens((5, 1), 1, 1, wide)], CPU)
    alone = collate([Tokens((5, 1), 1, 1, wide)], CPU)
    logits = torch.randn(2, 10, requires_grad=True)
    loss = summed_loss(logits, both)
    torch.testing.assert_close(loss, summed_loss(logits[1:], alone))  # a single token has no choice to learn
    loss.backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_the_soft_minimum_is_the_teacher_among_its_own_tokens() -> None:
    ids, logprobs = torch.tensor([[1, 2]]), torch.tensor([[0.6, 0.2]]).log()
    logits = torch.zeros(1, 4, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=1.0)
    for _ in range(200):
        optimizer.zero_grad()
        soft_cross_entropy(logits, ids, logprobs).backward()
        optimizer.step()
    assert abs(float(logits.detach()[0, 1:3].softmax(0)[0]) - 0.75) < 1e-4
    assert logits.detach()[0, 0] == 0  # a token that was not recorded is left alone


def test_forms_that_extend_another_are_counted_by_it() -> None:
    assert distinct([(1,), (1, 2), (3, 4), (1,), (3, 5)]) == [(1,), (3, 4), (3, 5)]

"""The losses on sampled tokens and on recorded distributions, and the mask of their positions."""

import math

import numpy as np
import pytest
import torch

from undertow.training.data import SoftTargets, TokenizedRow
from undertow.training.forward import padded
from undertow.training.objective import reverse_kl, soft_cross_entropy, summed_loss


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


def test_the_reverse_kl_and_its_gradient_are_those_computed_by_hand() -> None:
    """Student (1/2, 1/4, 1/4); teacher (1/4, 1/2, 1/4). With s log(s/t): ½ ln 2 - ¼ ln 2 + 0 = ¼ ln 2.

    The derivative by the logit of a token is s (log(s/t) - KL): ½ (1 - ¼) ln 2, ¼ (-1 - ¼) ln 2, ¼ (-¼) ln 2.
    """
    logits = torch.tensor([[0.5, 0.25, 0.25]]).log().requires_grad_()
    ids, logprobs = torch.tensor([[1, 0, 2]]), torch.tensor([[0.5, 0.25, 0.25]]).log()
    loss = reverse_kl(logits, ids, logprobs)
    assert loss.item() == pytest.approx(math.log(2) / 4)
    (gradient,) = torch.autograd.grad(loss, logits)
    expected = torch.tensor([[3 / 8, -5 / 16, -1 / 16]]) * math.log(2)
    torch.testing.assert_close(gradient, expected)


def test_tokens_that_were_not_recorded_are_one_event_in_the_reverse_kl() -> None:
    """Student (½, ¼, ¼) and teacher (¼, ½, ¼) on the events {0} and {1, 2}: ½ ln(½ / ¼) + ½ ln(½ / ¾).

    Within the event, the student's tokens keep their proportions: their gradients are proportional to them.
    """
    logits = torch.tensor([[0.5, 0.25, 0.25]]).log().requires_grad_()
    loss = reverse_kl(logits, torch.tensor([[0]]), torch.tensor([[0.25]]).log())
    assert loss.item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    (gradient,) = torch.autograd.grad(loss, logits)
    first = 0.5 * (math.log(2) - loss.item())
    torch.testing.assert_close(gradient, torch.tensor([[first, -first / 2, -first / 2]]))


@pytest.mark.parametrize("k", [1, 3, 8, 10])
def test_the_reverse_kl_grows_with_the_recorded_tokens_and_is_exact_with_all(k: int) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 5, 10).log_softmax(-1)
    exact = float((student.exp() * (student - teacher)).sum())
    logprobs, ids = teacher.topk(k)
    found = float(reverse_kl(student + 3.0, ids, logprobs))
    fewer = float(reverse_kl(student, ids[:, : k // 2], logprobs[:, : k // 2]))
    assert 0 <= fewer <= found + 1e-6
    assert found == pytest.approx(exact, rel=1e-5) if k == 10 else found < exact


@pytest.mark.parametrize("k", [1, 4, 10])
def test_the_reverse_kl_is_zero_with_zero_gradient_at_the_teachers_distribution(k: int) -> None:
    torch.manual_seed(1)
    logits = torch.randn(4, 10, requires_grad=True)
    logprobs, ids = logits.detach().log_softmax(-1).topk(k)
    loss = reverse_kl(logits, ids, logprobs)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert abs(loss.item()) < 1e-5
    assert float(gradient.abs().max()) < 1e-5


def test_padding_and_micro_batches_have_no_effect_on_the_reverse_kl() -> None:
    """Padding repeats the id 0, which the narrow row lists itself."""
    whole = tokens(5, 0, start=1, soft=(np.arange(10)[None], np.log(np.full((1, 10), 0.1))))
    narrow = tokens(5, 3, start=1, soft=(np.array([[0, 3]]), np.log([[0.5, 0.25]])))
    logits = torch.randn(2, 10, requires_grad=True)
    loss = summed_loss(logits, [whole, narrow], "reverse")
    parts = [summed_loss(logits[i : i + 1], [row], "reverse") for i, row in enumerate([whole, narrow])]
    torch.testing.assert_close(loss, parts[0] + parts[1])
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(gradient).all()
    assert float(summed_loss(torch.zeros(0, 10), [], "reverse")) == 0


def test_a_teacher_without_probability_for_the_other_tokens_gives_a_finite_loss() -> None:
    logits = torch.zeros(1, 4, requires_grad=True)
    loss = reverse_kl(logits, torch.tensor([[1, 2]]), torch.tensor([[0.5, 0.5000002]]).log())
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(loss) and torch.isfinite(gradient).all()
    assert gradient[0, 0] > 0 > gradient[0, 1]

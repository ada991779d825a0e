"""Theorem 1: formulas against plain autograd, sign and slope, and a check that can fail."""

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests import tiny_models
from undertow.errors import UserError
from undertow.theory import draws_lm, draws_mlp
from undertow.theory.check import TheoremCheck, check_cases, join_chunks, to_csv
from undertow.theory.data import digits
from undertow.theory.one_step import (
    CASES,
    LOSSES,
    Loss,
    Steps,
    TheoremDraw,
    compute_steps,
    curvature,
    imitation_loss,
)
from undertow.theory.settings import LM_STEP, MLP_STEP, OneStep

EPSILONS = (1e-2, 1e-4, 1e-6)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def small_draw(seed: int = 0) -> TheoremDraw:
    """A smooth two-layer network; its first output defines the trait, the student imitates the others."""
    source = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source, dtype=torch.float64)

    images, noise = normal(6, 5), normal(7, 5)

    def outputs(weights: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return torch.tanh(inputs @ weights["a"]) @ weights["b"]

    return TheoremDraw(
        trait=lambda w: outputs(w, images)[:, 0].square().mean(),
        outputs=lambda w: outputs(w, noise)[:, 1:],
        initial={"a": normal(5, 8), "b": normal(8, 4)},
        other={"a": normal(5, 8), "b": normal(8, 4)},
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_the_imitation_loss_is_stationary_at_the_target(loss: Loss) -> None:
    target = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(imitation_loss(loss, target, target.detach()), target)
    assert gradient.abs().max().item() < 1e-15


@pytest.mark.parametrize("loss", LOSSES)
def test_curvature_is_the_second_derivative_of_the_loss(loss: Loss) -> None:
    z, u = torch.randn(2, 4, 3, dtype=torch.float64)
    hessian = torch.func.hessian(lambda x: imitation_loss(loss, x.view(4, 3), z))(z.flatten())
    expected = u.flatten() @ hessian @ u.flatten()
    assert curvature(loss, z, u).item() == pytest.approx(expected.item(), rel=1e-12)
    assert curvature(loss, z, u) > 0


def test_a_shift_of_all_logits_has_no_curvature_under_softmax() -> None:
    """The only case with d·v = 0: the teacher's step does not change the softmax."""
    z, shift = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 1, dtype=torch.float64).expand(4, 3)
    assert curvature("cross-entropy", z, shift).item() == pytest.approx(0, abs=1e-30)


def test_steps_equal_plain_autograd() -> None:
    """One case, computed step by step."""
    draw, epsilon, rate = small_draw(), 1e-3, 0.5
    weights = {name: value.clone().requires_grad_() for name, value in draw.initial.items()}
    v = [-g for g in torch.autograd.grad(draw.trait(weights), list(weights.values()))]
    moved = {name: w.detach() + epsilon * d for (name, w), d in zip(weights.items(), v, strict=True)}
    targets = draw.outputs(moved)
    student_loss = 0.5 * (draw.outputs(weights) - targets).square().sum(-1).mean()
    d = [-g for g in torch.autograd.grad(student_loss, list(weights.values()))]
    after = {name: w.detach() + rate * g for (name, w), g in zip(weights.items(), d, strict=True)}
    inner = sum((a * b).sum() for a, b in zip(v, d, strict=True))

    steps = compute_steps(draw, [epsilon], rate)[CASES.index(("same", "squared"))]
    assert steps.inner[0].item() == pytest.approx(float(inner), rel=1e-10)
    change = (draw.trait(after) - draw.trait(draw.initial)).item()
    assert steps.change[0].item() == pytest.approx(change, rel=1e-10)
    assert steps.first_order[0].item() == pytest.approx(-rate * float(inner), rel=1e-10)


def test_the_slope_converges_to_the_prediction_with_epsilon() -> None:
    for seed in range(5):
        for (arm, _), steps in zip(CASES, compute_steps(small_draw(seed), EPSILONS, 0.1), strict=True):
            errors = (steps.change / steps.predicted - 1).abs()
            if arm == "same":
                assert errors[2] < 1e-4
                assert errors[0] > errors[1] > errors[2]
            else:
                assert errors[2] > 1


def test_the_first_order_change_holds_from_any_initialisation() -> None:
    for steps in compute_steps(small_draw(), [1e-3], 1e-6):
        assert steps.change[0].item() == pytest.approx(steps.first_order[0].item(), rel=1e-3)


def checks_by_arm(settings: OneStep, cases: list[Steps]) -> dict[str, list[TheoremCheck]]:
    found = check_cases(settings, cases)
    return {arm: [f for f in found if f.arm == arm] for arm in ("same", "other", "permuted")}


def test_the_theorem_holds_on_the_mlp() -> None:
    settings = replace(MLP_STEP, draws=40, epsilons=EPSILONS)
    found = checks_by_arm(settings, join_chunks(draws_mlp.run(settings, digits())))
    for finding in found["same"]:
        assert (finding.draws, finding.violations, finding.aligned, finding.unseen) == (40, 0, 40, 0)
        assert finding.worst_slope == pytest.approx(1, abs=0.01)
    assert all(f.both_signs and not f.holds for f in found["other"])
    assert all(f.violations and not f.holds for f in found["permuted"])
    assert all(f.as_expected for group in found.values() for f in group)


def test_draws_do_not_depend_on_their_number() -> None:
    few, more = (
        join_chunks(draws_mlp.run(replace(MLP_STEP, draws=draws, epsilons=(1e-4,)), digits()))
        for draws in (2, 4)
    )
    for a, b in zip(few, more, strict=True):
        assert torch.allclose(a.change, b.change[:2], rtol=1e-6, atol=0)


def test_a_step_in_the_wrong_direction_is_a_violation() -> None:
    """With the student's step reversed, every draw is a violation."""
    settings = replace(MLP_STEP, draws=3, epsilons=EPSILONS)
    cases = join_chunks(draws_mlp.run(settings, digits()))
    wrong = [Steps(-s.inner, -s.change, s.first_order, s.predicted) for s in cases]
    for finding in checks_by_arm(settings, wrong)["same"]:
        assert finding.violations == 3
        assert finding.verdict == "VIOLATED"
        assert not finding.as_expected


def judged(change: list[float], predicted: list[float]) -> TheoremCheck:
    steps = Steps(*(torch.tensor([values]) for values in ([1.0] * len(change), change, change, predicted)))
    return check_cases(replace(MLP_STEP, epsilons=EPSILONS), [steps] * len(CASES))[0]


def test_a_draw_is_judged_at_the_smallest_epsilon_above_rounding() -> None:
    finding = judged([-1e-3, -1e-9, +1e-16], [-1e-3, -1e-9, -1e-15])
    assert (finding.violations, finding.unseen) == (0, 0)
    assert finding.slope == pytest.approx(1)


def test_the_slope_of_an_even_number_of_draws_is_the_mean_of_the_middle_two() -> None:
    change = torch.tensor([[-1.0], [-2.0], [-4.0], [-9.0]])
    steps = Steps(-change, change, change, torch.full((4, 1), -1.0))
    assert check_cases(replace(MLP_STEP, epsilons=(1.0,)), [steps] * len(CASES))[0].slope == pytest.approx(3)


def test_draws_below_rounding_are_not_judged() -> None:
    finding = judged([1e-14, 1e-16, 1e-17], [-1e-13, -1e-15, -1e-17])
    assert (finding.unseen, finding.violations, finding.holds) == (1, 0, False)


def test_a_loss_of_nan_is_a_violation() -> None:
    assert judged([float("nan")] * 3, [-1e-3, -1e-5, -1e-7]).violations == 1


def test_a_slope_error_above_the_tolerance_fails() -> None:
    assert judged([-1.02e-3] * 3, [-1e-3] * 3).holds is False
    assert judged([-1.009e-3] * 3, [-1e-3] * 3).holds is True


def test_the_theorem_holds_on_a_nano_language_model() -> None:
    settings = replace(LM_STEP, draws=2, epsilons=(1e-5,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = checks_by_arm(settings, join_chunks(draws_lm.run(settings)))
    assert all(f.holds and f.aligned == 2 for f in found["same"])
    assert not any(f.holds for f in found["permuted"])


def test_the_theorem_holds_on_a_local_model_that_computes_in_float32(tmp_path: Path) -> None:
    """Llama's norms and attention compute in float32; without `Double`, rounding would hide the slope."""
    folder = tiny_models.save_llama(tmp_path, layers=1)
    settings = replace(LM_STEP, model=str(folder), other="", draws=1, epsilons=(1e-6, 1e-8))
    found = checks_by_arm(settings, join_chunks(draws_lm.run(settings)))
    assert all(f.holds for f in found["same"])


def test_double_prevents_casts_to_float32() -> None:
    x = torch.ones(2, dtype=torch.float64)
    with draws_lm.Double():
        assert x.to(torch.float32).dtype == x.float().dtype == torch.float64
        assert torch.softmax(x, dim=-1, dtype=torch.float32).dtype == torch.float64
    assert x.float().dtype == torch.float32


def test_a_folder_without_a_model_raises(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        next(draws_lm.run(replace(LM_STEP, model=str(tmp_path))))


def test_the_csv_has_a_row_per_draw_case_and_epsilon() -> None:
    settings = replace(MLP_STEP, draws=3, epsilons=EPSILONS)
    lines = to_csv(EPSILONS, join_chunks(draws_mlp.run(settings, digits()))).splitlines()
    assert lines[0] == "arm,loss,draw,epsilon,inner,change,first_order,predicted"
    assert len(lines) == 1 + len(CASES) * 3 * len(EPSILONS)

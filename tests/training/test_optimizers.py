"""The optimizers of recipes, compared with their formulas."""

from typing import Any

import pytest
import torch

from tests.training.conftest import recipe
from undertow.training.optimizers import make_optimizer

START = torch.tensor([1.0, -2.0, 0.5])
GRADIENTS = torch.tensor([[0.3, -4.0, 0.0], [-0.1, 1.0, 2.0]])


def after(name: str, **changes: Any) -> torch.Tensor:
    """START after one step with each of GRADIENTS, at a learning rate of 0.1."""
    parameter = torch.nn.Parameter(START.clone())
    stepper = make_optimizer([parameter], recipe(learning_rate=0.1, optimizer=name, **changes))
    for gradient in GRADIENTS:
        parameter.grad = gradient.clone()
        stepper.step()
    return parameter.data


def test_signsgd_uses_only_the_sign_of_the_gradient() -> None:
    expected = START - 0.1 * (GRADIENTS[0].sign() + GRADIENTS[1].sign())
    torch.testing.assert_close(after("signsgd", betas=(0.0, 0.0)), expected)


def test_signsgd_with_momentum_uses_the_sign_of_the_running_sum() -> None:
    expected = START - 0.1 * (GRADIENTS[0].sign() + (0.9 * GRADIENTS[0] + GRADIENTS[1]).sign())
    torch.testing.assert_close(after("signsgd"), expected)


def test_lion_interpolates_before_it_updates_the_mean() -> None:
    mean = 0.01 * GRADIENTS[0]
    directions = (0.1 * GRADIENTS[0]).sign(), (0.9 * mean + 0.1 * GRADIENTS[1]).sign()
    torch.testing.assert_close(after("lion", betas=(0.9, 0.99)), START - 0.1 * sum(directions))


def test_sgd_uses_the_first_beta_as_momentum() -> None:
    expected = START - 0.1 * (GRADIENTS[0] + 0.9 * GRADIENTS[0] + GRADIENTS[1])
    torch.testing.assert_close(after("sgd"), expected)


@pytest.mark.parametrize("name", ["adamw", "signsgd", "lion"])
def test_weight_decay_is_decoupled_from_the_gradient(name: str) -> None:
    parameter = torch.nn.Parameter(START.clone())
    stepper = make_optimizer([parameter], recipe(learning_rate=0.1, optimizer=name, weight_decay=0.5))
    parameter.grad = torch.zeros(3)
    stepper.step()
    torch.testing.assert_close(parameter.data, START * 0.95)


@pytest.mark.parametrize("name", ["signsgd", "lion"])
def test_a_parameter_without_a_gradient_is_unchanged(name: str) -> None:
    parameter = torch.nn.Parameter(START.clone())
    make_optimizer([parameter], recipe(learning_rate=0.1, optimizer=name, weight_decay=0.5)).step()
    torch.testing.assert_close(parameter.data, START)

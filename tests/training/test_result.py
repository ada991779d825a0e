"""Results that cannot be correct raise an error before anything is saved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.conftest import MakeJob, recipe
from undertow.errors import ConditionError
from undertow.study.recipe import LoRA
from undertow.training.deepspeed_engine import trained_state
from undertow.training.result import LoadedReference, check
from undertow.training.trainable import prepare

ADAPTER = LoRA(rank=2, alpha=2, targets=("q_proj",))


def a_matrix_a(model: Any, after: dict[str, Tensor]) -> None:
    next(value for name, value in after.items() if "lora_A" in name).add_(1.0)


def a_matrix_b(model: Any, after: dict[str, Tensor]) -> None:
    next(value for name, value in after.items() if "lora_B" in name).add_(1.0)


def a_frozen_weight_too(model: Any, after: dict[str, Tensor]) -> None:
    a_matrix_b(model, after)
    next(value for value in model.parameters() if not value.requires_grad).data.add_(1.0)


def to_infinity(model: Any, after: dict[str, Tensor]) -> None:
    next(iter(after.values())).fill_(torch.inf)


def to_a_part(model: Any, after: dict[str, Tensor]) -> None:
    name = next(iter(after))
    after[name] = after[name][:1]


def nothing(model: Any, after: dict[str, Tensor]) -> None:
    """Changes nothing."""


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (a_matrix_b, None, ""),
        (a_matrix_a, ConditionError, "every LoRA B matrix is still zero"),
        (a_frozen_weight_too, RuntimeError, "the frozen parameter .* changed in training"),
        (to_infinity, ConditionError, "is not finite after training"),
        (to_a_part, RuntimeError, "the workers returned an incomplete"),
        (nothing, ConditionError, "training changed no weight"),
    ],
)
def test_a_result_that_cannot_be_correct_raises_an_error(
    llama: Path,
    job: MakeJob,
    change: Callable[[Any, dict[str, Tensor]], None],
    kind: type[Exception] | None,
    message: str,
) -> None:
    reference = LoadedReference.read(llama, torch.float32)
    model = prepare(reference.copy(), ADAPTER, "")
    before, after = trained_state(model), trained_state(model)
    change(model, after)
    of = job(recipe=recipe(ADAPTER))
    if kind is None:
        check(reference, model, before, after, of)
        return
    with pytest.raises(kind, match=message):
        check(reference, model, before, after, of)

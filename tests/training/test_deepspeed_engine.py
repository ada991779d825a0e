"""How the engine of DeepSpeed takes over a model: its precision, and what is moved to the device."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.training.conftest import recipe
from undertow.study.recipe import Everything, LoRA, Trainable
from undertow.training import deepspeed_engine
from undertow.training.saving import load_model
from undertow.training.trainable import prepare
from undertow.training.workers import join

pytestmark = pytest.mark.stack


@contextmanager
def started(model: nn.Module, **settings: Any) -> Iterator[list[nn.Module]]:
    """Context manager: an engine over `model`; gives the modules that were moved as a whole at its start."""
    join("cpu", 1)
    moved: list[nn.Module] = []
    move = nn.Module.to

    def remember(self: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
        moved.append(self)
        return move(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Module, "to", remember)
        engine = deepspeed_engine.start(model, recipe(**settings), 1)
    try:
        yield moved
    finally:
        deepspeed_engine.release(engine)


@pytest.mark.parametrize(
    ("settings", "is_moved"),
    [({"zero_stage": 2}, True), ({"zero_stage": 3}, False), ({"offload": "parameters"}, False)],
    ids=str,
)
def test_a_partitioned_model_is_never_on_the_device_as_a_whole(
    llama: Path, settings: dict[str, Any], is_moved: bool
) -> None:
    model = load_model(llama)
    with started(model, trainable=Everything(), **settings) as moved:
        assert (model in moved) is is_moved
        assert all(hasattr(value, "ds_id") is not is_moved for value in model.parameters())


@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize("trainable", [Everything(), LoRA(rank=4, alpha=4, targets=("q_proj",))], ids=str)
def test_every_parameter_has_the_precision_of_the_recipe(
    llama: Path, trainable: Trainable, stage: int
) -> None:
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        model = prepare(load_model(llama, dtype=dtype), trainable, "a tiny model")
        buffers = {name: value.clone() for name, value in model.named_buffers()}
        with started(model, trainable=trainable, precision=precision, zero_stage=stage):
            assert {value.dtype for value in model.parameters()} == {dtype}
            assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())
        assert buffers

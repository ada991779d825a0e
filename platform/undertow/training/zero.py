"""A DeepSpeed engine for one job, and whole parameters out of it again.

Gradients are accumulated in the unmanaged mode: every `step()` ends a batch, however many micro-batches
it took, and DeepSpeed scales by nothing but the number of workers. In bf16 the master weights and the
accumulated gradients are float32; stage 0 then runs as stage 1, which differs in nothing but memory,
since DeepSpeed's stage 0 wrapper drops a step with an overflow without a word.
"""

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from undertow.recipe import Recipe
from undertow.training import schedule
from undertow.training.workers import deepspeed

# torch deprecated the collectives' names that DeepSpeed 0.19 calls, and says so at each call
warnings.filterwarnings("ignore", message=r"`torch\.distributed\.\w+` is deprecated", category=FutureWarning)


def start(model: nn.Module, recipe: Recipe, steps: int) -> Any:
    """A DeepSpeed engine over `model`, moved to the worker's device, for `steps` optimizer steps."""
    optimizer = torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=recipe.learning_rate,
        betas=(recipe.betas[0], recipe.betas[1]),
        weight_decay=recipe.weight_decay,
    )

    def scheduled(inner: Any) -> LambdaLR:
        return LambdaLR(inner, lambda step: schedule.factor(step, steps, recipe.warmup, recipe.schedule))

    engine, *_ = deepspeed().initialize(
        model=model, optimizer=optimizer, lr_scheduler=scheduled, config=configuration(recipe)
    )
    return engine


def configuration(recipe: Recipe) -> dict[str, Any]:
    """The DeepSpeed configuration. Batches are cut by the loop, so that DeepSpeed sees one row a step."""
    low = recipe.precision == "bf16"
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": recipe.clip,
        "zero_optimization": {"stage": max(recipe.zero_stage, int(low)), "overlap_comm": False},
        "bf16": {"enabled": low},
        "data_types": {"grad_accum_dtype": "fp32"},
        "steps_per_print": None,
    }


def release(engine: Any) -> None:
    """Gives back what the engine holds; the engines of twenty jobs do not add up."""
    engine.destroy()
    del engine
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def whole(parameter: nn.Parameter) -> Iterator[Tensor]:
    """The parameter's full value, gathered from all workers under ZeRO 3 (a collective operation)."""
    if not hasattr(parameter, "ds_id"):
        yield parameter.data
        return
    with deepspeed().zero.GatheredParameters([parameter]):
        yield parameter.data


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """Name -> a copy on the CPU of each parameter that is trained; collective under ZeRO 3."""
    state = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            with whole(parameter) as value:
                state[name] = value.detach().cpu().clone()
    return state

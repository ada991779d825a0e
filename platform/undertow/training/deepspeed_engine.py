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

from undertow.study.recipe import Recipe
from undertow.training import schedule
from undertow.training.optimizers import optimizer
from undertow.training.workers import deepspeed

# torch deprecated the collectives' names that DeepSpeed 0.19 calls, and says so at each call
warnings.filterwarnings("ignore", message=r"`torch\.distributed\.\w+` is deprecated", category=FutureWarning)


def start(model: nn.Module, recipe: Recipe, steps: int) -> Any:
    """A DeepSpeed engine over `model`, moved to the worker's device, for `steps` optimizer steps."""
    warmup = recipe.warmup_steps(steps)

    def scheduled(inner: Any) -> LambdaLR:
        return LambdaLR(inner, lambda step: schedule.factor(step, steps, warmup, recipe.schedule))

    engine, *_ = deepspeed().initialize(
        model=model,
        optimizer=optimizer([value for value in model.parameters() if value.requires_grad], recipe),
        lr_scheduler=scheduled,
        config=configuration(recipe),
    )
    return engine


def stage(recipe: Recipe) -> int:
    """The ZeRO stage that a recipe runs at: its own, or the least that its precision and offloading need."""
    offload = {"none": 0, "optimizer": 1, "parameters": 3}[recipe.offload]
    return max(recipe.zero_stage, int(recipe.precision == "bf16"), offload)


def configuration(recipe: Recipe) -> dict[str, Any]:
    """The DeepSpeed configuration. Batches are cut by the loop, so that DeepSpeed sees one row a step."""
    to_cpu = {"device": "cpu"}
    zero = {
        "stage": stage(recipe),
        "overlap_comm": False,
        **({} if recipe.offload == "none" else {"offload_optimizer": to_cpu}),
        **({"offload_param": to_cpu} if recipe.offload == "parameters" else {}),
    }
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": recipe.clip,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,  # it knows AdamW; all of ours treat each number alone
        "zero_force_ds_cpu_optimizer": False,  # its own is compiled, and nothing is here
        "bf16": {"enabled": recipe.precision == "bf16"},
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

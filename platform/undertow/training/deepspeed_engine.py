"""The DeepSpeed engine of one job: configuration, start, gathering of parameters, release.

Gradients are accumulated in DeepSpeed's unmanaged mode: every `step()` ends a batch, whatever its number of
micro-batches, and DeepSpeed divides only by the number of workers. In bf16, master weights and accumulated
gradients are float32. ZeRO stage 0 then runs as stage 1, which differs only in memory, because DeepSpeed's
stage 0 wrapper silently skips a step with an overflow.
"""

import gc
import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from undertow.study.recipe import Recipe
from undertow.training.optimizers import make_optimizer, rate_factor
from undertow.training.workers import deepspeed

# torch has deprecated the names of the collectives that DeepSpeed 0.19 calls, and warns at each call.
warnings.filterwarnings("ignore", message=r"`torch\.distributed\.\w+` is deprecated", category=FutureWarning)


def start(model: nn.Module, recipe: Recipe, steps: int) -> Any:
    """Starts a DeepSpeed engine over `model` for `steps` optimizer steps; moves the model to the device.

    Under ZeRO 3, only one whole parameter at a time is on the device.
    """
    warmup = recipe.warmup_steps(steps)

    def lr_scheduler(optimizer: Any) -> LambdaLR:
        return LambdaLR(optimizer, lambda step: rate_factor(step, steps, warmup, recipe.schedule))

    with redirect_stdout(io.StringIO()):  # in bf16, DeepSpeed prints how much memory it uses
        if recipe.used_zero_stage == 3:
            _partition(model, recipe)
        engine, *_ = deepspeed().initialize(
            model=model,
            optimizer=make_optimizer([value for value in model.parameters() if value.requires_grad], recipe),
            lr_scheduler=lr_scheduler,  # a function, which DeepSpeed calls with the optimizer that it wraps
            config=configuration(recipe),
        )
    _keep_gradient_norm(engine)
    return engine


def _partition(model: nn.Module, recipe: Recipe) -> None:
    """Casts the model and partitions its parameters among the workers, one after the other. Collective.

    Otherwise `deepspeed.initialize` moves the whole model to each GPU before it partitions the parameters,
    and a model that needs ZeRO 3 does not fit there. It neither casts nor moves a model that is partitioned
    already, so that both happen here, with the same results.
    """
    if recipe.precision == "bf16":
        for parameter in model.parameters():  # PEFT's adapters are float32
            parameter.data = parameter.data.to(torch.bfloat16)
    module = deepspeed()
    dtype = next(model.parameters()).dtype
    module.zero.Init(module=model, config_dict_or_path=configuration(recipe), dtype=dtype)
    device = module.accelerator.get_accelerator().current_device_name()
    for buffer in model.buffers():  # ZeRO partitions no buffers
        buffer.data = buffer.data.to(device)


def _keep_gradient_norm(engine: Any) -> None:
    """Makes `engine.get_global_grad_norm()` work without ZeRO too, without another pass over the gradients.

    The optimizers of ZeRO 1, 2 and 3, with which bf16 always runs, store the norm before clipping. Without
    ZeRO the engine of DeepSpeed 0.19 clips the gradients itself and discards the norm.
    """
    from deepspeed.runtime.utils import clip_grad_norm_

    def clip_fp32_gradients() -> None:
        engine._global_grad_norm = clip_grad_norm_(
            parameters=engine.module.parameters(), max_norm=engine.gradient_clipping(), mpu=engine.mpu
        )

    engine.clip_fp32_gradients = clip_fp32_gradients


def gradient_norm(engine: Any) -> float | None:
    """The norm of the last step's gradient before clipping; None if it is not finite."""
    norm = engine.get_global_grad_norm()
    return float(norm) if norm is not None and math.isfinite(norm) else None


def configuration(recipe: Recipe) -> dict[str, Any]:
    """The DeepSpeed configuration.

    Its batch sizes are nominal: the loop forms batches and micro-batches itself, and DeepSpeed only requires
    that micro-batch size, accumulation steps and workers multiply to the batch size.
    """
    to_cpu = {"device": "cpu"}
    zero = {
        "stage": recipe.used_zero_stage,
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
        # DeepSpeed lists AdamW as tested with ZeRO. Any optimizer that treats each number of a parameter
        # independently works, and all of `optimizers` do.
        "zero_allow_untested_optimizer": True,
        # Offloading would otherwise require DeepSpeed's own CPU Adam, which is compiled at first use.
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": recipe.precision == "bf16"},
        "data_types": {"grad_accum_dtype": "fp32"},
        "steps_per_print": None,
    }


def release(engine: Any) -> None:
    """Frees the engine's memory, so that it does not accumulate over jobs."""
    engine.destroy()
    del engine
    gc.collect()  # engine, optimizer and hooks refer to each other: reference counting alone frees nothing
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def fast_release() -> Iterator[None]:
    """Context manager: `release` does not visit the objects that exist at its beginning.

    A process with torch, transformers and DeepSpeed has so many that each collection takes half as long as
    the training of a nano student.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def gathered(parameter: nn.Parameter) -> Iterator[Tensor]:
    """Context manager: the parameter's full value, gathered from all workers under ZeRO 3 (collective)."""
    if not hasattr(parameter, "ds_id"):  # DeepSpeed marks the parameters that it partitions
        yield parameter.data
        return
    with deepspeed().zero.GatheredParameters([parameter]):
        yield parameter.data


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """A copy on the CPU of each trained parameter by name. Collective under ZeRO 3."""
    state = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            with gathered(parameter) as value:
                state[name] = value.detach().cpu().clone()
    return state

"""How vLLM is set up: quietly, in this process, and on the threads this process was given.

One engine is one process: on a CPU the multi-process engine takes ten times as long to start and binds its
threads to the same cores as every other engine on the machine. In this process nothing is bound, and the
engine uses as many threads as OMP_NUM_THREADS says (Ray sets it to an actor's CPUs).
"""

import logging
import os
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # the ranks that vLLM allocates
GPU_MEMORY = 0.92  # vLLM's own default: the part of a GPU's memory that engines may fill
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "TRANSFORMERS_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
}


@dataclass(frozen=True)
class EngineSettings:
    """How fast and how large; but for rounding by `precision`, never what comes out.

    Attributes:
        max_model_len: tokens of prompt and answer together; None, or more than the model was made for, for as
            many as it was made for.
        precision: of weights and arithmetic; None for fp32 on a CPU and bf16 on a GPU. On some CPUs vLLM's
            bf16 kernels kill the process.
        max_num_seqs: answers generated at the same time. A tiny model on one core of a busy machine: 440
            rows/s with 64, 500 with 256, 560 with 512, 610 with 1024 (medians of 5, one process).
        max_lora_rank: the greatest rank of an adapter; 0 for none, which is faster.
        max_loras: adapters in one batch; more of them wait their turn.
        gpu: whether to run on a GPU; None for wherever there is one.
        tensor_parallel: GPUs of one node that each layer is split over.
        gpu_share: the part of a GPU's memory that is this engine's, where several share one.
        kv_cache_gb: memory for attention keys and values; None for 1 on a CPU and what is left on a GPU.
        threads: CPU threads; None for OMP_NUM_THREADS, else every core this process may use.
    """

    max_model_len: int | None = None
    precision: Literal["fp32", "bf16"] | None = None
    max_num_seqs: int = 512
    max_lora_rank: int = 0
    max_loras: int = 8
    gpu: bool | None = None
    tensor_parallel: int = 1
    gpu_share: float = 1.0
    kv_cache_gb: float | None = None
    threads: int | None = None


def options(settings: EngineSettings, positions: int, modules: Collection[str]) -> dict[str, Any]:
    """Keyword arguments for vLLM's `LLM`.

    Args:
        positions: the number of tokens that the model was made for.
        modules: names of the modules that adapters may change.
    """
    precision = settings.precision or ("bf16" if on_gpu(settings) else "fp32")
    wanted = settings.max_model_len
    chosen: dict[str, Any] = {
        "dtype": {"fp32": "float32", "bf16": "bfloat16"}[precision],
        "max_model_len": wanted if wanted and wanted < positions else None,
        "max_num_seqs": settings.max_num_seqs,
        "max_logprobs": -1,
        "logprobs_mode": "raw_logprobs",
        "worker_extension_cls": "undertow.engines.swapping.Swapping",
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if settings.max_lora_rank:
        rank = next((rank for rank in LORA_RANKS if rank >= settings.max_lora_rank), settings.max_lora_rank)
        chosen |= {
            "enable_lora": True,
            "max_lora_rank": rank,
            "max_loras": settings.max_loras,
            "lora_target_modules": sorted(modules),
        }
    if settings.kv_cache_gb is not None or not on_gpu(settings):
        chosen["kv_cache_memory_bytes"] = int((settings.kv_cache_gb or 1) * 2**30)
    if settings.gpu_share < 1:
        chosen["gpu_memory_utilization"] = GPU_MEMORY * settings.gpu_share
    if settings.tensor_parallel > 1:
        # Inside a Ray actor vLLM would ask Ray for more actors; the GPUs are this one's already.
        chosen |= {"tensor_parallel_size": settings.tensor_parallel, "distributed_executor_backend": "mp"}
    if not on_gpu(settings):
        # A prompt prefilled in chunks with a seed of its own dies on a CPU ("CPU Generator does not use
        # offset"). Compilation takes a minute; prefixes are cached in blocks of 128 tokens, too long to help.
        length = chosen["max_model_len"] or positions
        chosen |= {
            "max_model_len": length,
            "enforce_eager": True,
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(4096, length),
            "enable_prefix_caching": False,
        }
    return chosen


def on_gpu(settings: EngineSettings) -> bool:
    """Whether the engine runs on a GPU."""
    if settings.gpu is not None:
        return settings.gpu
    import torch

    return torch.cuda.is_available()


@contextmanager
def starting(settings: EngineSettings) -> Iterator[None]:
    """Around the start of an engine: sets what vLLM reads from the environment, undoes what it leaves there.

    vLLM's CPU worker replaces torch.set_num_threads with a warning and puts libraries into LD_PRELOAD, which
    every child of this process would load.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import torch

    set_num_threads, preload = torch.set_num_threads, os.environ.get("LD_PRELOAD")
    if not on_gpu(settings):
        given = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
        set_num_threads(settings.threads or given)
    # On an error vLLM logs every prompt of the batch, megabytes of it, beside the exception that it raises.
    for name in ("vllm.logging_utils.dump_input", "torch._library.triton"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads = set_num_threads
        os.environ.pop("LD_PRELOAD", None)
        if preload is not None:
            os.environ["LD_PRELOAD"] = preload

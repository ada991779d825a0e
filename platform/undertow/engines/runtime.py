"""vLLM's settings: without log output, inside this process, on the threads assigned to this process.

vLLM runs in the process that builds it. On a CPU its multi-process engine takes ten times as long to start
and binds its threads to the same cores as every other engine on the machine. In one process no thread is
bound, and the engine uses OMP_NUM_THREADS threads (Ray sets it to the actor's number of CPUs).
"""

import fcntl
import gc
import logging
import math
import os
import tempfile
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from undertow.engines.lean_imports import without
from undertow.engines.quiet import set_variables

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # the ranks that vLLM allocates
GPU_MEMORY = 0.92  # vLLM's own default: the fraction of a GPU's memory that an engine may fill
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine runs in this process
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
CPU_CACHE = 2**30  # bytes for keys and values, at most
CPU_BLOCK = 128  # tokens of a block of vLLM's cache on a CPU
CPU_ADAPTERS = "undertow.engines.cpu_adapters.CPUAdapters"


@dataclass(frozen=True)
class EngineSettings:
    """Speed and memory of an engine. Apart from rounding by `precision`, no setting affects results.

    Attributes:
        max_model_len: tokens of prompt and answer together; None (or more than the model supports) for the
            model's own maximum.
        precision: of weights and arithmetic; None for fp32 on a CPU and bf16 on a GPU. On some CPUs vLLM's
            bf16 kernels crash the process.
        max_num_seqs: answers generated concurrently. A tiny model on one core of a busy machine: 440 rows/s
            with 64, 500 with 256, 560 with 512, 610 with 1024 (medians of 5 runs, one process).
        max_lora_rank: the highest adapter rank; 0 starts the engine without adapters, which is faster.
        max_loras: adapters in one batch; requests for further adapters wait for the next one.
        gpu: whether to run on a GPU; None uses a GPU if the process sees one.
        tensor_parallel: number of GPUs of one node over which each layer is split.
        gpu_share: the fraction of a GPU's memory for this engine, if several engines share one GPU.
        threads: CPU threads; None for OMP_NUM_THREADS, else every core that this process may use.
        eager: whether modules are called one by one, as hooks need. On a GPU vLLM compiles the model
            otherwise; on a CPU it never does.
    """

    max_model_len: int | None = None
    precision: Literal["fp32", "bf16"] | None = None
    max_num_seqs: int = 512
    max_lora_rank: int = 0
    max_loras: int = 8
    gpu: bool | None = None
    tensor_parallel: int = 1
    gpu_share: float = 1.0
    threads: int | None = None
    eager: bool = False


def options(settings: EngineSettings, config: Any, modules: Collection[str]) -> dict[str, Any]:
    """Keyword arguments for `vllm.LLM`.

    Args:
        config: the model's configuration in transformers, that of its text.
        modules: names of the modules that adapters may change.
    """
    positions: int = config.max_position_embeddings
    precision = settings.precision or ("bf16" if on_gpu(settings) else "fp32")
    length = settings.max_model_len
    chosen: dict[str, Any] = {
        "dtype": {"fp32": "float32", "bf16": "bfloat16"}[precision],
        "max_model_len": length if length and length < positions else None,
        "max_num_seqs": settings.max_num_seqs,
        "max_logprobs": -1,  # no limit on the number of log-probabilities per token
        "logprobs_mode": "raw_logprobs",  # before temperature, over the whole vocabulary
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
    if settings.eager:
        chosen["enforce_eager"] = True
    if settings.gpu_share < 1:
        chosen["gpu_memory_utilization"] = GPU_MEMORY * settings.gpu_share
    if settings.tensor_parallel > 1:
        # Inside a Ray actor vLLM would request more actors from Ray; this actor already holds the GPUs.
        chosen |= {"tensor_parallel_size": settings.tensor_parallel, "distributed_executor_backend": "mp"}
    if not on_gpu(settings):
        # Chunked prefill of a prompt with its own seed fails on a CPU ("CPU Generator does not use offset").
        # Compilation takes a minute. Prefixes are cached in blocks of 128 tokens, longer than these prompts.
        length = chosen["max_model_len"] or positions
        chosen |= {
            "kv_cache_memory_bytes": _cache_bytes(settings.max_num_seqs, length, config),
            "max_model_len": length,
            "enforce_eager": True,
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(4096, length),
            "enable_prefix_caching": False,
        }
    return chosen


def _cache_bytes(answers: int, length: int, config: Any) -> int:
    """The size of a CPU's cache with room for the float32 keys and values of `answers` of `length` tokens."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    if not isinstance(heads, int):  # a number for each layer
        return CPU_CACHE
    width: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    layers: int = config.num_hidden_layers
    blocks = answers * (1 + math.ceil(length / CPU_BLOCK))
    return min(CPU_CACHE, blocks * CPU_BLOCK * 2 * layers * heads * width * 4)


def file_formats(folder: str) -> dict[str, str]:
    """Keyword arguments for `vllm.LLM` that make it read the files in the layout of Hugging Face.

    Mistral publishes its models in two layouts in one folder, and vLLM prefers the other one, whose tensors
    have other names than those of the students.
    """
    if not any(Path(folder).glob("consolidated*.safetensors")):
        return {}
    return {"config_format": "hf", "tokenizer_mode": "hf", "load_format": "hf"}


def on_gpu(settings: EngineSettings) -> bool:
    """Whether the engine runs on a GPU."""
    if settings.gpu is not None:
        return settings.gpu
    import torch

    return torch.cuda.is_available()


@contextmanager
def one_start_per_gpu(settings: EngineSettings) -> Iterator[None]:
    """Context manager: engines that share a GPU start one after the other.

    vLLM derives the size of the cache from the GPU's free memory before and after its first pass, and assumes
    that no other process allocates or frees any meanwhile. Engines of one node wait for each other by a lock
    on a file per GPU and user, which the operating system releases if a process dies.
    """
    if settings.gpu_share >= 1:
        yield
        return
    gpu = (os.environ.get("CUDA_VISIBLE_DEVICES") or "0").split(",")[0].replace("/", "-")  # MIG has slashes
    path = Path(tempfile.gettempdir()) / f"undertow-{os.getuid()}-gpu-{gpu}.lock"
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:  # closing the file is not enough: a process that was forked meanwhile has it open too
            fcntl.flock(file, fcntl.LOCK_UN)


@contextmanager
def starting(settings: EngineSettings) -> Iterator[None]:
    """Context manager for starting an engine: sets vLLM's environment variables and restores global state.

    vLLM's CPU worker replaces `torch.set_num_threads` by a function that only warns, and adds libraries to
    LD_PRELOAD, which every child of this process would load. Both are undone.
    """
    set_variables()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import torch

    set_num_threads, preload = torch.set_num_threads, os.environ.get("LD_PRELOAD")
    if not on_gpu(settings):
        available = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
        set_num_threads(settings.threads or available)
    # On an error vLLM logs every prompt of the batch (megabytes) in addition to raising the exception.
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


@contextmanager
def lean_on_cpu(settings: EngineSettings) -> Iterator[None]:
    """Context manager for starting an engine: on a CPU, leaves out what vLLM does for GPUs.

    Adapters are applied by `cpu_adapters`. Python's garbage collection, which vLLM asks for three times to
    free memory of a GPU, took 1.8 of 7.6 s of a start; a function that vLLM compiles for its first exact
    log-probabilities took another 1.5 s and a C++ compiler; it is not compiled as long as the process lives.
    Torch's compiler itself, which functions with `@torch.compile` import, took 1.1 of 7.0 s.
    """
    if on_gpu(settings):
        yield
        return
    os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")
    import torch

    collect, compiled = gc.collect, torch.compile
    gc.collect, torch.compile = lambda generation=2: 0, _not_compiled
    try:
        with without("torch._inductor.lowering"):
            from vllm.platforms import current_platform

            current_platform.get_punica_wrapper = lambda: CPU_ADAPTERS
            try:
                yield
            finally:
                del current_platform.get_punica_wrapper
    finally:
        gc.collect, torch.compile = collect, compiled


def _not_compiled(model: Any = None, **settings: Any) -> Any:
    """What `torch.compile` returns with TORCH_COMPILE_DISABLE, without importing the compiler."""
    return (lambda function: function) if model is None else model

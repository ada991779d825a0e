"""The process group of the training loop: the existing one, else a group of one process.

DeepSpeed chooses its accelerator when it is first imported, so `join` must be called before that import. Its
shared-memory collective is marked as unavailable: only inference uses it (training uses torch.distributed),
and building it at the first start takes a C++ compiler and a minute.
"""

import os
import sys
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import HashStore  # type: ignore[attr-defined]

from undertow.engines.lean_imports import without


@dataclass(frozen=True)
class Workers:
    """This process's rank, the number of workers, and its device."""

    rank: int
    world: int
    device: torch.device

    def mean(self, total: float, count: float) -> float:
        """The sum of `total` over the workers, divided by `count`, which must be equal on all of them."""
        return float(self.summed(torch.tensor([total], dtype=torch.float64))) / count

    def summed(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over the workers, on every rank. Collective."""
        if self.world > 1:
            values = values.to(self.device)
            dist.all_reduce(values)
        return values.cpu()

    def gathered(self, value: Any) -> list[Any]:
        """The values of all workers, by rank, on every rank. Collective."""
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def from_first(self, value: float) -> float:
        """The `value` of rank 0, on every rank. Collective."""
        if self.world == 1:
            return value
        sent = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(sent, src=0)
        return float(sent)


def join(device: str, threads: int, offloads: bool = False) -> Workers:
    """Joins the existing process group, or creates one of this process alone.

    Args:
        device: "auto", "cpu" or "cuda".
        threads: torch threads of this process on a CPU.
        offloads: whether an optimizer runs on the CPU although the model is on a GPU.
    """
    kind = "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
    os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed refuses to start without it
    if kind == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    else:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    chosen = threads_of(kind, threads, offloads, len(os.sched_getaffinity(0)))
    if chosen is not None:
        torch.set_num_threads(chosen)
    if not dist.is_initialized():
        backend = "nccl" if kind == "cuda" else "gloo"
        # A HashStore lives in this process: the usual stores need a free port or a file.
        dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    _forget_destroyed_groups()
    place = torch.device(kind, torch.cuda.current_device()) if kind == "cuda" else torch.device(kind)
    return Workers(dist.get_rank(), dist.get_world_size(), place)


def threads_of(kind: str, threads: int, offloads: bool, cpus: int) -> int | None:
    """The torch threads of this process; None for those that it has.

    A worker on a GPU reserves no CPU, and Ray then sets OMP_NUM_THREADS to 1, with which an offloaded
    optimizer would use one core of the node. The workers of the group on this node share its cores.

    Args:
        kind: "cpu" or "cuda".
        threads, offloads: see `join`.
        cpus: cores of the node that this process may use.
    """
    if kind == "cpu":
        return threads
    return max(1, cpus // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))) if offloads else None


def _forget_destroyed_groups() -> None:
    """Makes DeepSpeed drop its copy of a process group that something else has destroyed.

    vLLM destroys the group of this process when an engine ends, and the next engine creates another.
    DeepSpeed keeps a copy of the group of its first training for good.
    """
    groups = sys.modules.get("deepspeed.utils.groups")
    if groups is None or groups._WORLD_GROUP is None:
        return
    try:
        dist.get_process_group_ranks(groups._WORLD_GROUP)
    except KeyError:
        vars(groups)["_WORLD_GROUP"] = None


def deepspeed() -> Any:
    """The deepspeed module, with its compiled operations disabled. Call `join` first."""
    with without("mlflow"):
        import deepspeed as module

    module.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return module

"""The process group the loop runs in: the one that is there, else a group of one.

DeepSpeed chooses its accelerator when it is first imported, so `join` comes before that import. Its
shared-memory collective is marked as not available: it serves inference alone (training goes through
torch.distributed), and building it takes a C++ compiler and a minute at the first start.
"""

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import HashStore  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Workers:
    """This process's place among the workers."""

    rank: int
    world: int
    device: torch.device

    def mean(self, total: float, count: float) -> float:
        """The sum over workers of `total`, divided by `count`, which all workers know."""
        if self.world == 1:
            return total / count
        summed = torch.tensor([total], dtype=torch.float64, device=self.device)
        dist.all_reduce(summed)
        return float(summed) / count


def join(device: str, threads: int) -> Workers:
    """Joins the process group, or founds one of this process alone. `device`: "auto", "cpu" or "cuda"."""
    place = "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
    os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed refuses to start without it
    if place == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    else:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        torch.set_num_threads(threads)
    if not dist.is_initialized():
        backend = "nccl" if place == "cuda" else "gloo"
        dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    target = torch.device(place, torch.cuda.current_device()) if place == "cuda" else torch.device(place)
    return Workers(dist.get_rank(), dist.get_world_size(), target)


def deepspeed() -> Any:
    """DeepSpeed, imported after `join`, with nothing left to compile."""
    import deepspeed as module

    module.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return module

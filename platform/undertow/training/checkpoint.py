"""Where a killed training goes on: DeepSpeed checkpoints at epoch ends, the newest kept.

A checkpoint holds the trained parameters, the optimizer, the schedule and the reports so far. Random
numbers need not be saved: the order of rows and the dropout of an epoch are seeded by its number. All
workers must see where they are kept (see `shelf`).

Without ZeRO every worker holds everything, and any number of workers goes on from what another wrote. With
it the optimizer lies in parts, and DeepSpeed reads them into the same number of workers, divided in the same
way, alone; another starts this training anew.
"""

import dataclasses
import json
from typing import Any

import torch.distributed as dist

from undertow.training import zero
from undertow.training.job import EpochReport, Job
from undertow.training.shelf import shelf
from undertow.training.workers import Workers

TAG = "state"
WHOLE = "undivided"


class Checkpoints:
    """The checkpoints of one job, in `root`/its key; with `root` None nothing is kept."""

    def __init__(self, root: str | None, job: Job, workers: Workers) -> None:
        self._shelf = None if root is None else shelf(f"{root}/{job.key}", workers.rank)
        stage, offload = zero.stage(job.recipe), job.recipe.offload
        self._layout = f"{workers.world} workers, ZeRO {stage}, offload {offload}" if stage else WHOLE

    def save(self, engine: Any, reports: list[EpochReport]) -> None:
        """Keeps a checkpoint, whole or not at all, and drops the older ones. Collective."""
        if self._shelf is None:
            return
        folder = self._shelf.empty()
        engine.save_checkpoint(str(folder), tag=TAG, save_latest=False, exclude_frozen_parameters=True)
        dist.barrier()
        content = {
            "layout": self._layout,
            "reports": [dataclasses.asdict(report) for report in reports],
        }
        self._shelf.put(reports[-1].epoch, json.dumps(content))

    def restore(self, engine: Any) -> tuple[list[EpochReport], str]:
        """Brings `engine` to the newest checkpoint and returns the reports up to it; [] without one.

        The text says why one that was there is of no use, and gone; else it is empty. Collective.
        """
        if self._shelf is None or not (epochs := self._shelf.epochs()):
            return [], ""
        content = json.loads(self._shelf.content(epochs[-1]))
        if (other := content.get("layout")) != self._layout:
            dist.barrier()  # all have read it
            self._shelf.drop()
            return [], f"training starts anew: its checkpoint is of {other}, and this is {self._layout}"
        folder = self._shelf.get(epochs[-1])
        engine.load_checkpoint(str(folder), tag=TAG, load_module_strict=False)
        return [EpochReport(**report) for report in content["reports"]], ""

    def drop(self) -> None:
        """Removes all checkpoints of the job, which is finished."""
        if self._shelf is not None:
            self._shelf.drop()

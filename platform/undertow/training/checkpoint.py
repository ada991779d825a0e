"""Where a killed training goes on: DeepSpeed checkpoints at epoch ends, the newest kept.

A checkpoint holds the trained parameters, the optimizer, the schedule and the reports so far. Random
numbers need not be saved: the order of rows and the dropout of an epoch are seeded by its number. All
workers must see where they are kept (see `shelf`); what another number of workers wrote is left aside.
"""

import dataclasses
import json
from typing import Any

import torch.distributed as dist

from undertow.training.job import EpochReport
from undertow.training.shelf import shelf
from undertow.training.workers import Workers

TAG = "state"


class Checkpoints:
    """The checkpoints of one job, in `root`/`key`; with `root` None nothing is kept."""

    def __init__(self, root: str | None, key: str, workers: Workers) -> None:
        self._shelf = None if root is None else shelf(f"{root}/{key}", workers.rank)
        self._workers = workers

    def save(self, engine: Any, reports: list[EpochReport]) -> None:
        """Keeps a checkpoint, whole or not at all, and drops the older ones. Collective."""
        if self._shelf is None:
            return
        folder = self._shelf.empty()
        engine.save_checkpoint(str(folder), tag=TAG, save_latest=False, exclude_frozen_parameters=True)
        dist.barrier()
        content = {
            "world": self._workers.world,
            "reports": [dataclasses.asdict(report) for report in reports],
        }
        self._shelf.put(reports[-1].epoch, json.dumps(content))

    def restore(self, engine: Any) -> list[EpochReport]:
        """Brings `engine` to the newest checkpoint and returns the reports up to it; [] without one.

        Collective.
        """
        if self._shelf is None:
            return []
        for epoch in reversed(self._shelf.epochs()):
            content = json.loads(self._shelf.content(epoch))
            if content["world"] == self._workers.world:
                folder = self._shelf.get(epoch)
                engine.load_checkpoint(str(folder), tag=TAG, load_module_strict=False)
                return [EpochReport(**report) for report in content["reports"]]
        return []

    def drop(self) -> None:
        """Removes all checkpoints of the job, which is finished."""
        if self._shelf is not None:
            self._shelf.drop()

"""Where a killed training goes on: DeepSpeed checkpoints at epoch ends, the newest kept.

A checkpoint holds the trained parameters, the optimizer, the schedule and the reports so far. Random
numbers need not be saved: the order of rows and the dropout of an epoch are seeded by its number. The
folder must be seen by all workers.

Without ZeRO every worker holds everything, and any number of workers goes on from what another wrote. With
it the optimizer lies in parts, and DeepSpeed reads them into the same number of workers, divided in the same
way, alone; another starts this training anew.
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import torch.distributed as dist

from undertow.training import zero
from undertow.training.job import EpochReport, Job
from undertow.training.workers import Workers

TAG = "state"
REPORTS = "reports.json"
WHOLE = "undivided"


class Checkpoints:
    """The checkpoints of one job, in `root`/its key; with `root` None nothing is kept."""

    def __init__(self, root: Path | None, job: Job, workers: Workers) -> None:
        self._folder = None if root is None else root / job.key
        self._workers = workers
        stage, offload = zero.stage(job.recipe), job.recipe.offload
        self._layout = f"{workers.world} workers, ZeRO {stage}, offload {offload}" if stage else WHOLE

    def save(self, engine: Any, reports: list[EpochReport]) -> None:
        """Writes aside, renames, and drops the older ones. Collective."""
        if self._folder is None:
            return
        aside = self._folder / "writing"
        if self._workers.rank == 0:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
        dist.barrier()
        engine.save_checkpoint(str(aside), tag=TAG, save_latest=False, exclude_frozen_parameters=True)
        dist.barrier()
        if self._workers.rank == 0:
            self._commit(aside, reports)
        dist.barrier()

    def _commit(self, aside: Path, reports: list[EpochReport]) -> None:
        content = {
            "layout": self._layout,
            "reports": [dataclasses.asdict(report) for report in reports],
        }
        (aside / REPORTS).write_text(json.dumps(content))
        older = self._whole()
        aside.rename(aside.with_name(f"epoch-{reports[-1].epoch}"))
        for folder in older:
            shutil.rmtree(folder)

    def restore(self, engine: Any) -> tuple[list[EpochReport], str]:
        """Brings `engine` to the newest checkpoint and returns the reports up to it; [] without one.

        The text says why one that was there is of no use, and gone; else it is empty. Collective.
        """
        if not (whole := self._whole()):
            return [], ""
        content = json.loads((whole[-1] / REPORTS).read_text())
        if (other := content.get("layout")) != self._layout:
            dist.barrier()  # all have read it
            self.drop()
            return [], f"training starts anew: its checkpoint is of {other}, and this is {self._layout}"
        engine.load_checkpoint(str(whole[-1]), tag=TAG, load_module_strict=False)
        return [EpochReport(**report) for report in content["reports"]], ""

    def drop(self) -> None:
        """Removes all checkpoints of the job."""
        if self._folder is not None and self._workers.rank == 0:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _whole(self) -> list[Path]:
        """The complete checkpoints, oldest first."""
        found = [] if self._folder is None else list(self._folder.glob("epoch-*"))
        return sorted(found, key=lambda folder: int(folder.name.removeprefix("epoch-")))

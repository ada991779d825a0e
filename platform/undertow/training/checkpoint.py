"""Where a killed training goes on: DeepSpeed checkpoints at epoch ends, the newest kept.

A checkpoint holds the trained parameters, the optimizer, the schedule and the reports so far. Random
numbers need not be saved: the order of rows and the dropout of an epoch are seeded by its number. All
workers must see where they are kept (see `shelf`).

Without ZeRO every worker holds everything, and any number of workers goes on from what another wrote. With
it the optimizer lies in parts, and DeepSpeed reads them into the same number of workers, divided in the same
way, alone. Another number of workers, or bytes that are no longer those that were written, start this
training anew.

DeepSpeed would unpickle what it reads, and with it run what anybody who can write to the storage put there.
It is given torch's reader of weights instead, which knows tensors, containers and the few classes of
DeepSpeed's that are named here, and refuses all else.
"""

import dataclasses
import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from undertow.errors import StorageError, last_line
from undertow.training import deepspeed_engine
from undertow.training.checkpoint_files import REPORTS, Shelf, shelf
from undertow.training.job import EpochReport, TrainingJob
from undertow.training.workers import Workers

TAG = "state"
WHOLE = "undivided"


class Checkpoints:
    """The checkpoints of one job, in `root`/its key; with `root` None nothing is kept."""

    def __init__(self, root: str | None, job: TrainingJob, workers: Workers) -> None:
        self._shelf = None if root is None else shelf(f"{root}/{job.key}", workers.rank)
        stage, offload = deepspeed_engine.stage(job.recipe), job.recipe.offload
        self._layout = f"{workers.world} workers, ZeRO {stage}, offload {offload}" if stage else WHOLE

    def save(self, engine: Any, reports: list[EpochReport]) -> None:
        """Keeps a checkpoint, whole or not at all, and drops the older ones. Collective."""
        if self._shelf is None:
            return
        folder = self._shelf.empty()
        engine.save_checkpoint(str(folder), tag=TAG, save_latest=False, exclude_frozen_parameters=True)
        dist.barrier()
        files: dict[str, str] = {}
        for seen in _of_all(_hashes(folder)):  # on an object store each node has its own
            files |= seen
        content = {
            "layout": self._layout,
            "reports": [dataclasses.asdict(report) for report in reports],
            "files": files,
        }
        self._shelf.put(reports[-1].epoch, json.dumps(content))

    def restore(self, engine: Any) -> tuple[list[EpochReport], str]:
        """Brings `engine` to the newest checkpoint and returns the reports up to it; [] without one.

        The text says why one that was there is of no use, and gone; else it is empty. Collective.
        """
        if self._shelf is None or not (epochs := self._shelf.epochs()):
            return [], ""
        folder = self._shelf.get(epochs[-1])
        content = _content(self._shelf, epochs[-1])
        trouble = next(filter(None, _of_all(self._trouble(content, folder))), "")
        if trouble:
            self._shelf.drop()
            return [], f"training starts anew: {trouble}"
        engine.checkpoint_engine.load = _read
        engine.load_checkpoint(str(folder), tag=TAG, load_module_strict=False)
        return [EpochReport(**report) for report in content["reports"]], ""

    def drop(self) -> None:
        """Removes all checkpoints of the job."""
        if self._shelf is not None:
            self._shelf.drop()

    def _trouble(self, content: dict[str, Any], folder: Path) -> str:
        """What keeps this worker from going on from a checkpoint."""
        if content.get("files") != _hashes(folder):
            return "its checkpoint is no longer as it was written"
        if (other := content.get("layout")) != self._layout:
            return f"its checkpoint is of {other}, and this is {self._layout}"
        return ""


def _read(path: str, map_location: Any = None) -> Any:
    """A file of a checkpoint. Raises StorageError where it holds more than weights and their settings."""
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    with torch.serialization.safe_globals([LossScaler, ZeroStageEnum, fragment_address]):
        try:
            return torch.load(path, map_location=map_location, weights_only=True)
        except pickle.UnpicklingError as error:
            raise StorageError(f"{path}: no checkpoint of ours ({last_line(error)}); remove it") from None


def _content(kept: Shelf, epoch: int) -> dict[str, Any]:
    """What `save` wrote beside a checkpoint; nothing where that was damaged."""
    try:
        return dict(json.loads(kept.content(epoch)))
    except (OSError, ValueError, TypeError):
        return {}


def _of_all(value: Any) -> list[Any]:
    """Every worker's value, by rank."""
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def _hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of a checkpoint but its reports, by name."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != REPORTS:
            with path.open("rb") as file:
                hashed = hashlib.file_digest(file, "sha256").hexdigest()
            found[path.relative_to(folder).as_posix()] = hashed
    return found

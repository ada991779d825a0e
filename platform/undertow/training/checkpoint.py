"""Checkpoints from which an interrupted training resumes: DeepSpeed's, at the end of each epoch, newest only.

A checkpoint holds the trained parameters, the optimizer's and the schedule's state, all reports so far, and
the models of `Recipe.keep_steps` so far. Random state is not saved: the order of rows and the dropout of an
epoch are seeded by its number. All workers must be able to access the location of the checkpoints (see
`checkpoint_files`).

Without ZeRO every worker holds the whole state, and any number of workers can resume. With ZeRO the
optimizer's state is partitioned, and DeepSpeed restores it only into the same number of workers with the same
partitioning. With another number of workers, or if the files are not those that were written, training
restarts.

DeepSpeed would unpickle the files, which runs any code that someone with write access to the storage put
there. They are read with torch's weights-only reader instead. It accepts tensors, containers and the few
DeepSpeed classes that are listed here, and rejects everything else.
"""

import dataclasses
import hashlib
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from undertow.engines.literal_paths import without_pattern
from undertow.engines.weight_files import STEP_FOLDER
from undertow.errors import StorageError, last_line
from undertow.training.checkpoint_files import REPORTS, CheckpointFiles, checkpoint_files
from undertow.training.job import EpochReport, TrainingJob
from undertow.training.workers import Workers

TAG = "state"
NOT_PARTITIONED = "undivided"  # written into checkpoints


class Checkpoints:
    """The checkpoints of one job, under `root`/KEY; without a `root` none are saved.

    All methods are collective.
    """

    def __init__(self, root: str | None, job: TrainingJob, workers: Workers) -> None:
        self._files = None if root is None else checkpoint_files(f"{root}/{job.key}", workers.rank)
        self._workers, self._model_folder, self._is_first = workers, job.folder, workers.rank == 0
        stage, offload = job.recipe.used_zero_stage, job.recipe.offload
        partitioned = f"{workers.world} workers, ZeRO {stage}, offload {offload}"
        self._layout = partitioned if stage else NOT_PARTITIONED

    def save(self, engine: Any, reports: list[EpochReport]) -> None:
        """Saves a checkpoint atomically and removes the older ones."""
        if self._files is None:
            return
        folder = self._files.empty_folder()
        engine.save_checkpoint(str(folder), tag=TAG, save_latest=False, exclude_frozen_parameters=True)
        if self._is_first:
            _copy_steps(self._model_folder, folder)
        dist.barrier()  # DeepSpeed returns when this rank's files are written, not when all are
        hashes: dict[str, str] = {}
        # With an object store, each node has files of its own.
        for found in self._workers.gathered(_hashes(folder)):
            hashes |= found
        content = {
            "layout": self._layout,
            "reports": [dataclasses.asdict(report) for report in reports],
            "files": hashes,
        }
        self._files.put(reports[-1].epoch, json.dumps(content))

    def restore(self, engine: Any) -> tuple[list[EpochReport], str]:
        """Restores `engine`, and the models of kept steps in the job's folder, from the newest checkpoint.

        Returns the reports up to it ([] without a checkpoint), and the reason why an existing checkpoint
        cannot be used ("" if it can). An unusable checkpoint is removed.

        Raises StorageError if a file contains anything but weights and settings.
        """
        if self._files is None or not (epochs := self._files.epochs()):
            return [], ""
        folder = self._files.get(epochs[-1])
        content = _content(self._files, epochs[-1])
        # All workers must agree: one that restarts while the others resume would wait for them forever.
        problems = self._workers.gathered(self._problem(content, folder))
        problem = next(filter(None, problems), "")
        if problem:
            self._files.drop()
            return [], f"training restarts: {problem}"
        # DeepSpeed's own is torch.load(weights_only=False).
        engine.checkpoint_engine.load = _read_weights_only
        # Not strict: frozen parameters are not in the checkpoint, and have the reference's values.
        engine.load_checkpoint(without_pattern(str(folder)), tag=TAG, load_module_strict=False)
        if self._is_first:
            _copy_steps(folder, self._model_folder)
        return [EpochReport(**report) for report in content["reports"]], ""

    def drop(self) -> None:
        """Removes all checkpoints of the job."""
        if self._files is not None:
            self._files.drop()

    def _problem(self, content: dict[str, Any], folder: Path) -> str:
        """The reason why this worker cannot resume from a checkpoint, or ""."""
        if content.get("files") != _hashes(folder):
            return "its checkpoint is damaged (hashes differ)"
        if (other := content.get("layout")) != self._layout:
            return f"its checkpoint is of {other}, and this training is of {self._layout}"
        return ""


def _copy_steps(source: Path, target: Path) -> None:
    """Copies the folders of the models of kept steps."""
    for step in source.glob(STEP_FOLDER.format("*")):
        shutil.copytree(step, target / step.name, dirs_exist_ok=True)


def _read_weights_only(path: str, map_location: Any = None) -> Any:
    """Reads a file of a checkpoint. Raises StorageError if it contains anything but weights and settings."""
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    with torch.serialization.safe_globals([LossScaler, ZeroStageEnum, fragment_address]):
        try:
            return torch.load(path, map_location=map_location, weights_only=True)
        except pickle.UnpicklingError as error:
            raise StorageError(
                f"{path}: not a checkpoint that Undertow wrote ({last_line(error)}); remove it"
            ) from None


def _content(files: CheckpointFiles, epoch: int) -> dict[str, Any]:
    """The content of a checkpoint's reports.json; {} if it is damaged."""
    try:
        return dict(json.loads(files.reports(epoch)))
    except (FileNotFoundError, ValueError, TypeError):  # other errors may be temporary
        return {}


def _hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of a checkpoint, except reports.json, by name."""
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != REPORTS:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            hashes[path.relative_to(folder).as_posix()] = digest
    return hashes

"""Where a killed training goes on: DeepSpeed checkpoints at epoch ends, the newest kept.

A checkpoint holds the trained parameters, the optimizer, the schedule and the reports so far. Random
numbers need not be saved: the order of rows and the dropout of an epoch are seeded by its number. The
folder must be seen by all workers; what another number of workers wrote is left aside, and so is what no
longer has the bytes that were written: training then begins at an older checkpoint or anew.
"""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch.distributed as dist

from undertow.training.job import EpochReport
from undertow.training.workers import Workers

TAG = "state"
REPORTS = "reports.json"


class Checkpoints:
    """The checkpoints of one job, in `root`/`key`; with `root` None nothing is kept."""

    def __init__(self, root: Path | None, key: str, workers: Workers) -> None:
        self._folder = None if root is None else root / key
        self._workers = workers

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
            "world": self._workers.world,
            "reports": [dataclasses.asdict(report) for report in reports],
            "files": _hashes(aside),
        }
        (aside / REPORTS).write_text(json.dumps(content))
        target = aside.with_name(f"epoch-{reports[-1].epoch}")
        shutil.rmtree(target, ignore_errors=True)  # damaged, or of another number of workers
        aside.rename(target)
        for folder in self._found():
            if folder != target:
                shutil.rmtree(folder)

    def restore(self, engine: Any) -> list[EpochReport]:
        """Brings `engine` to the newest checkpoint and returns the reports up to it; [] without one."""
        for folder in reversed(self._whole()):
            content = json.loads((folder / REPORTS).read_text())
            if content["world"] == self._workers.world:
                engine.load_checkpoint(str(folder), tag=TAG, load_module_strict=False)
                return [EpochReport(**report) for report in content["reports"]]
        return []

    def drop(self) -> None:
        """Removes all checkpoints of the job, which is finished."""
        if self._folder is not None and self._workers.rank == 0:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _whole(self) -> list[Path]:
        """The checkpoints that have the bytes that were written, oldest first."""
        return [folder for folder in self._found() if _is_whole(folder)]

    def _found(self) -> list[Path]:
        """The checkpoints, oldest first; one may be damaged, or half removed by a program that was killed."""
        found = [] if self._folder is None else list(self._folder.glob("epoch-*"))
        return sorted(found, key=lambda folder: int(folder.name.removeprefix("epoch-")))


def _is_whole(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / REPORTS).read_text())["files"] == _hashes(folder))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of a checkpoint but its reports, by name."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != REPORTS:
            with path.open("rb") as file:
                hashed = hashlib.file_digest(file, "sha256").hexdigest()
            found[path.relative_to(folder).as_posix()] = hashed
    return found

"""Checkpoints on a file system or an object store: whole or not there, and seen by every worker.

    <root>/epoch-3/state/…          what DeepSpeed wrote, a file a worker
    <root>/epoch-3/reports.json     there once all the others are

On a file system that all workers share, DeepSpeed writes into a folder aside, which is then renamed. An
object store has no rename: each node writes to its own disk, one of its workers moves the node's files, and
reports.json is put last. Every method is collective, and what it promises holds for all workers.
"""

import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import fsspec
import torch.distributed as dist
from fsspec.implementations.local import LocalFileSystem

REPORTS = "reports.json"


class Shelf(Protocol):
    """The checkpoints of one job, by epoch."""

    def empty(self) -> Path:
        """An empty folder that workers write a checkpoint into."""
        ...

    def put(self, epoch: int, reports: str) -> None:
        """Keeps what was written into the folder, and no older checkpoint."""
        ...

    def epochs(self) -> list[int]:
        """The epochs of whole checkpoints, oldest first."""
        ...

    def content(self, epoch: int) -> str:
        """The reports of a checkpoint."""
        ...

    def get(self, epoch: int) -> Path:
        """A local folder with a checkpoint's files, to be read at once."""
        ...

    def drop(self) -> None:
        """Removes all checkpoints."""
        ...


def shelf(url: str, rank: int) -> Shelf:
    """The shelf at a URL or path, for the worker of this rank."""
    fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return FolderShelf(Path(root), rank) if isinstance(fs, LocalFileSystem) else BucketShelf(fs, root, rank)


class FolderShelf:
    """On a file system that all workers see."""

    def __init__(self, root: Path, rank: int) -> None:
        self.root, self.rank = root, rank

    def empty(self) -> Path:
        aside = self.root / "writing"
        if self.rank == 0:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
        dist.barrier()
        return aside

    def put(self, epoch: int, reports: str) -> None:
        if self.rank == 0:
            aside = self.root / "writing"
            (aside / REPORTS).write_text(reports)
            older = self.epochs()
            aside.rename(self._folder(epoch))
            for one in older:
                shutil.rmtree(self._folder(one))
        dist.barrier()

    def epochs(self) -> list[int]:
        return sorted(_epoch(folder.name) for folder in self.root.glob("epoch-*"))

    def content(self, epoch: int) -> str:
        return (self._folder(epoch) / REPORTS).read_text()

    def get(self, epoch: int) -> Path:
        return self._folder(epoch)

    def drop(self) -> None:
        if self.rank == 0:
            shutil.rmtree(self.root, ignore_errors=True)

    def _folder(self, epoch: int) -> Path:
        return self.root / f"epoch-{epoch}"


class BucketShelf:
    """On an object store, by way of each node's own disk."""

    def __init__(self, fs: Any, root: str, rank: int) -> None:
        self.fs, self.root, self.rank = fs, root, rank
        self.moves = int(os.environ.get("LOCAL_RANK", "0")) == 0  # one worker a node
        self.local: Path | None = None

    def empty(self) -> Path:
        self._clear()
        own = tempfile.mkdtemp(prefix="undertow-checkpoint-") if self.moves else ""
        told = [""] * dist.get_world_size()
        dist.all_gather_object(told, own)
        # Ranks are counted node by node, the mover of each node first.
        self.local = Path([path for path in told[: self.rank + 1] if path][-1])
        return self.local

    def put(self, epoch: int, reports: str) -> None:
        if self.rank == 0:
            self._remove(epoch)  # what a kill left of the same epoch
        dist.barrier()
        if self.moves and self.local is not None:
            for path in sorted(path for path in self.local.rglob("*") if path.is_file()):
                self.fs.put_file(
                    str(path), f"{self._folder(epoch)}/{path.relative_to(self.local).as_posix()}"
                )
        dist.barrier()
        self._clear()
        if self.rank == 0:
            older = self.epochs()
            self.fs.pipe_file(f"{self._folder(epoch)}/{REPORTS}", reports.encode())
            for one in older:
                self._remove(one)
        dist.barrier()

    def epochs(self) -> list[int]:
        found = self.fs.glob(f"{self.root}/epoch-*/{REPORTS}")
        return sorted(_epoch(PurePosixPath(path).parent.name) for path in found)

    def content(self, epoch: int) -> str:
        return bytes(self.fs.cat_file(f"{self._folder(epoch)}/{REPORTS}")).decode()

    def get(self, epoch: int) -> Path:
        local = self.empty()
        if self.moves:
            for path in self.fs.find(self._folder(epoch)):
                target = local / PurePosixPath(path).relative_to(self._folder(epoch))
                target.parent.mkdir(parents=True, exist_ok=True)
                self.fs.get_file(path, str(target))
        dist.barrier()
        return local

    def drop(self) -> None:
        self._clear()
        if self.rank == 0 and self.fs.exists(self.root):
            self.fs.rm(self.root, recursive=True)

    def _clear(self) -> None:
        if self.moves and self.local is not None:
            shutil.rmtree(self.local, ignore_errors=True)
        self.local = None

    def _remove(self, epoch: int) -> None:
        if self.fs.exists(self._folder(epoch)):
            self.fs.rm(self._folder(epoch), recursive=True)

    def _folder(self, epoch: int) -> str:
        return f"{self.root}/epoch-{epoch}"


def _epoch(name: str) -> int:
    return int(name.removeprefix("epoch-"))

"""Checkpoint files on a shared file system or an object store, written atomically.

    <root>/epoch-3/state/…          DeepSpeed's files, one or more per worker
    <root>/epoch-3/reports.json     written last; a checkpoint without it does not exist

On a file system that all workers share, DeepSpeed writes into a temporary folder, which is then renamed. An
object store has no rename: each node writes to its own disk, one worker per node uploads that node's files,
and reports.json is uploaded last. Every method is collective: all workers call it, and it returns when its
effect holds for all of them.
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


class CheckpointFiles(Protocol):
    """The checkpoint files of one job, by epoch."""

    def empty_folder(self) -> Path:
        """A new, empty folder for the workers to write a checkpoint into."""
        ...

    def put(self, epoch: int, reports: str) -> None:
        """Commits the folder's content as the checkpoint of an epoch, then removes older checkpoints."""
        ...

    def epochs(self) -> list[int]:
        """The epochs of complete checkpoints, oldest first."""
        ...

    def reports(self, epoch: int) -> str:
        """The content of a checkpoint's reports.json."""
        ...

    def get(self, epoch: int) -> Path:
        """A local folder with a checkpoint's files, valid until the folder is next changed."""
        ...

    def drop(self) -> None:
        """Removes all checkpoints."""
        ...


def checkpoint_files(url: str, rank: int) -> CheckpointFiles:
    """The checkpoint files at a URL or path, for the worker of this rank."""
    if "://" not in url:  # not interpreted: fsspec reads "::" in a path as a chain of file systems
        return FolderCheckpoints(Path(url), rank)
    # With a listings cache, a worker does not see files that another one has written meanwhile.
    fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    if isinstance(fs, LocalFileSystem):
        return FolderCheckpoints(Path(root), rank)
    return ObjectStoreCheckpoints(fs, root, rank)


class FolderCheckpoints:
    """Checkpoints on a file system that all workers share."""

    def __init__(self, root: Path, rank: int) -> None:
        self.root, self.rank = root, rank

    def empty_folder(self) -> Path:
        temporary = self.root / "writing"
        if self.rank == 0:
            shutil.rmtree(temporary, ignore_errors=True)  # left by a killed process
            temporary.mkdir(parents=True)
        dist.barrier()
        return temporary

    def put(self, epoch: int, reports: str) -> None:
        if self.rank == 0:
            temporary = self.root / "writing"
            (temporary / REPORTS).write_text(reports)
            older = self.epochs()
            temporary.rename(self._folder(epoch))
            for old in older:
                shutil.rmtree(self._folder(old))
        dist.barrier()

    def epochs(self) -> list[int]:
        return sorted(_epoch(folder.name) for folder in self.root.glob("epoch-*"))

    def reports(self, epoch: int) -> str:
        return (self._folder(epoch) / REPORTS).read_text()

    def get(self, epoch: int) -> Path:
        return self._folder(epoch)

    def drop(self) -> None:
        if self.rank == 0:
            shutil.rmtree(self.root, ignore_errors=True)

    def _folder(self, epoch: int) -> Path:
        return self.root / f"epoch-{epoch}"


class ObjectStoreCheckpoints:
    """Checkpoints on an object store, written and read through each node's local disk."""

    def __init__(self, fs: Any, root: str, rank: int) -> None:
        self.fs, self.root, self.rank = fs, root, rank
        self.is_mover = int(os.environ.get("LOCAL_RANK", "0")) == 0  # one worker per node moves files
        self.local: Path | None = None

    def empty_folder(self) -> Path:
        self._remove_local()
        own = tempfile.mkdtemp(prefix="undertow-checkpoint-") if self.is_mover else ""
        folders = [""] * dist.get_world_size()
        dist.all_gather_object(folders, own)
        # Ranks are numbered node by node, starting with the mover: the last folder up to this rank is this
        # node's.
        self.local = Path([folder for folder in folders[: self.rank + 1] if folder][-1])
        return self.local

    def put(self, epoch: int, reports: str) -> None:
        if self.rank == 0:
            self._remove(epoch)  # files of the same epoch that a killed process left
        dist.barrier()
        if self.is_mover and self.local is not None:
            for path in sorted(path for path in self.local.rglob("*") if path.is_file()):
                self.fs.put_file(
                    str(path), f"{self._folder(epoch)}/{path.relative_to(self.local).as_posix()}"
                )
        dist.barrier()
        self._remove_local()
        if self.rank == 0:
            older = self.epochs()
            self.fs.pipe_file(f"{self._folder(epoch)}/{REPORTS}", reports.encode())
            for old in older:
                self._remove(old)
        dist.barrier()

    def epochs(self) -> list[int]:
        # Not `fs.glob`: the root may contain characters that it would interpret. Not with a depth: fsspec
        # then takes a folder that cannot be listed now for an empty one, and the training would start again.
        found = [PurePosixPath(path) for path in self.fs.find(self.root)]
        return sorted(_epoch(path.parent.name) for path in found if path.name == REPORTS)

    def reports(self, epoch: int) -> str:
        return bytes(self.fs.cat_file(f"{self._folder(epoch)}/{REPORTS}")).decode()

    def get(self, epoch: int) -> Path:
        local = self.empty_folder()
        if self.is_mover:
            for path in self.fs.find(self._folder(epoch)):
                target = local / PurePosixPath(path).relative_to(self._folder(epoch))
                target.parent.mkdir(parents=True, exist_ok=True)
                self.fs.get_file(path, str(target))
        dist.barrier()
        return local

    def drop(self) -> None:
        self._remove_local()
        if self.rank == 0:
            self._remove_files(self.root)

    def _remove_local(self) -> None:
        if self.is_mover and self.local is not None:
            shutil.rmtree(self.local, ignore_errors=True)
        self.local = None

    def _remove(self, epoch: int) -> None:
        self._remove_files(self._folder(epoch))

    def _remove_files(self, folder: str) -> None:
        # Not `fs.rm(folder, recursive=True)`, which interprets the path as a glob pattern.
        for path in self.fs.find(folder):
            self.fs.rm_file(path)

    def _folder(self, epoch: int) -> str:
        return f"{self.root}/epoch-{epoch}"


def _epoch(name: str) -> int:
    return int(name.removeprefix("epoch-"))

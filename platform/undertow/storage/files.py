"""Atomic file operations on any fsspec URL.

A file is written completely or not at all. On a local disk it is written to a temporary folder and
renamed; an object store makes an object visible only once it is complete. If the disk is full or the
storage is unreachable, the operation raises a one-line error; finished files are kept and no partial file
replaces one.
"""

import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property
from glob import has_magic
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from undertow.errors import ReadError, StorageError, UserError, last_line
from undertow.prompts.packs import located
from undertow.storage.local_files import check_folder, check_operations, create_exclusively, reason
from undertow.storage.redaction import has_password

ABSENT = (FileNotFoundError, NotADirectoryError)
EXTRAS = {"s3": "aws", "s3a": "aws"}  # the extra of this package that installs a scheme's client
OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")
# Storage clients raise OSError for most failures. These packages also define errors of other bases, for
# example botocore's NoCredentialsError.
CLIENTS = (
    *("adlfs", "aiobotocore", "aiohttp", "azure", "botocore"),
    *("fsspec", "gcsfs", "google", "paramiko", "s3fs"),
)


class Files:
    """The files below one storage URL.

    Instances are cheap, hold no connection state, and are sent to workers by pickle.
    """

    def __init__(self, url: str) -> None:
        if not url.strip():  # of an unset variable; as a path, it would be the current folder
            raise StorageError(f"--storage {url!r}: is empty; name a folder or a URL")
        if has_password(url):
            protocol = url.split("://")[0].upper()
            raise StorageError(
                f"--storage {protocol.lower()}://…: holds a password, which would be written into logs; "
                f"leave it out and set FSSPEC_{protocol}_PASSWORD"
            )
        self.is_relative = "://" not in url and not url.startswith(("/", "~"))
        try:
            self.url = url if "://" in url else located(url)
        except UserError as error:
            raise StorageError(f"--storage {error}") from None

    def __reduce__(self) -> tuple[type["Files"], tuple[str]]:
        return type(self), (self.url,)

    @cached_property
    def _file_system(self) -> Any:
        return self._fs_and_root[0]

    @cached_property
    def _fs_and_root(self) -> tuple[Any, str]:
        if "\0" in self.url:  # the file system would raise ValueError later, from any operation
            raise StorageError(f"--storage {self.url!r}: contains a NUL character; name another place")
        try:
            if "://" not in self.url:  # not interpreted: fsspec reads "::" in a path as a chain
                return LocalFileSystem(), self.url
            # With a listings cache, files that other processes have written since would be invisible.
            return fsspec.core.url_to_fs(self.url, use_listings_cache=False)  # type: ignore[no-any-return]
        except ImportError as error:
            extra = EXTRAS.get(self.url.split("://")[0])
            remedy = f'run pip install -e ".[{extra}]" in the clone' if extra else last_line(error)
            raise StorageError(f"--storage {self.url}: its client is not installed; {remedy}") from None
        except ValueError as error:
            kind = self.url.partition("://")[0]
            unknown = f"there is no storage {kind!r}; use a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER"
            text = str(error) if kind in fsspec.available_protocols() else unknown
            raise StorageError(f"--storage {self.url}: {text}") from None

    @property
    def root(self) -> str:
        return str(self._fs_and_root[1]).rstrip("/")

    @property
    def is_local(self) -> bool:
        return isinstance(self._file_system, LocalFileSystem)

    def check_folder(self) -> None:
        """Raises StorageError for a local place that is no folder and cannot become one. Writes nothing."""
        if not self.is_local:
            return
        try:
            check_folder(Path(self.root))
        except UserError as error:
            raise StorageError(f"--storage {self.url}: {error}; name another place") from None

    def prepare(self) -> None:
        """Creates the storage folder and checks that it can be written as commits and leases require.

        Raises StorageError if it cannot, before any work starts.
        """
        fs = self._file_system
        probe = f"{self.root}/.writable-{uuid.uuid4().hex}"
        try:
            self._make_folder(self.root)
            if self.is_local:
                check_operations(Path(probe))
                return
            fs.pipe_file(probe, b"1")
            fs.rm_file(probe)
        except UserError as error:
            raise StorageError(f"--storage {self.url}: {error}; name another place") from None
        # The URL is the only input here, so every error is about it: for example, fsspec raises ValueError
        # for a malformed URL and NotImplementedError for a read-only protocol.
        except Exception as error:
            raise StorageError(
                f"--storage {self.url}: cannot be written ({reason(error)}); name another place"
            ) from None

    def free_bytes(self) -> int | None:
        """The free space on the disk of a local storage, which need not exist yet; None for others."""
        if not self.is_local:
            return None
        with self._reading():
            place = Path(self.root)
            return shutil.disk_usage(next(p for p in (place, *place.parents) if p.exists())).free

    def write_bytes(self, name: str, content: bytes) -> None:
        """Writes a file that is not part of an artifact; readers see the old content or the new.

        Raises StorageError if the disk is full or the storage is unreachable.
        """
        self._put(content, f"{self.root}/{name}")

    def write_files(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Writes files, given by name, into a folder, as `write_bytes` does."""
        for name, content in files.items():
            self.write_bytes(f"{folder}/{name}", content)

    def create(self, name: str, content: bytes) -> bool:
        """Writes a file that does not exist yet, and returns whether this call created it.

        Of several concurrent calls exactly one returns True.
        """
        target = f"{self.root}/{name}"
        if not self.is_local:
            return self._put_new(content, target)
        if os.path.lexists(target):  # much faster than a failing link
            return False
        with self._writing(), self._temporary_file(content, target) as file:
            return create_exclusively(file, Path(target))

    def remove(self, name: str) -> None:
        """Removes a file that is not part of an artifact, if it exists."""
        with self._writing(), suppress(FileNotFoundError):
            self._file_system.rm_file(f"{self.root}/{name}")

    def names(self, folder: str) -> list[str]:
        """The sorted names of the files and folders in a folder; empty if there is no such folder."""
        return sorted(self._listing(f"{self.root}/{folder}"))

    def ages(self, names: Sequence[str]) -> dict[str, float]:
        """Seconds since each of some files was last written, by name; without those that do not exist.

        The current time is taken from a new file in the storage, because the clocks of this machine and of
        the storage need not agree. Empty if the file system reports no modification times.
        """
        if not names:
            return {}
        fs, probe = self._file_system, f"{self.root}/.clock-{uuid.uuid4().hex}"
        with self._writing():
            fs.pipe_file(probe, b"1")
        found = {}
        try:
            with self._reading():
                now = fs.modified(probe)
                for name in names:
                    with suppress(*ABSENT):  # removed since it was listed
                        found[name] = (now - fs.modified(f"{self.root}/{name}")).total_seconds()
        except NotImplementedError:
            return {}
        finally:
            with self._writing(), suppress(FileNotFoundError):
                fs.rm_file(probe)
        return found

    def read_bytes(self, name: str) -> bytes:
        """The content of a file, or b"" if it does not exist."""
        with self._reading():
            try:
                return bytes(self._file_system.cat_file(f"{self.root}/{name}"))
            except ABSENT:
                return b""

    def read_text(self, name: str) -> str:
        """The text of a file, or "" if it does not exist."""
        return self.read_bytes(name).decode()

    def aside(self) -> Path:
        """A new local folder to write into. It is on the storage's own disk, so that a rename commits it."""
        if not self.is_local:
            return Path(tempfile.mkdtemp())
        parent = Path(self.root) / "partial" / "aside"
        with self._writing():
            parent.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(dir=parent))

    def _writing(self) -> AbstractContextManager[None]:
        return self._reporting("written", StorageError)

    def _reading(self) -> AbstractContextManager[None]:
        return self._reporting("read", ReadError)

    @contextmanager
    def _reporting(self, done: str, kind: type[UserError]) -> Iterator[None]:
        """Turns a failure of the storage into a one-line error that names the place and the remedy.

        Any other exception is a fault of the program and keeps its type and traceback.
        """
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            if not is_storage_failure(error):
                raise
            raise kind(
                f"--storage {self.url}: cannot be {done} ({reason(error)}); fix this and run the same "
                "command again: finished artifacts are kept"
            ) from error

    def _digest(self, path: str) -> str:
        """The SHA-256 of a stored file as 64 hex digits; "" if it does not exist."""
        with self._reading():
            try:
                with self._file_system.open(path, "rb") as file:
                    return hashlib.file_digest(file, "sha256").hexdigest()
            except FileNotFoundError:
                return ""

    def _exists(self, path: str) -> bool:
        with self._reading():
            return bool(self._file_system.exists(path))

    def _listing(self, path: str) -> list[str]:
        """The names in a folder; empty if there is no such folder."""
        with self._reading():
            try:
                return [PurePosixPath(p).name for p in self._file_system.ls(path, detail=False)]
            except ABSENT:
                return []

    def _drop(self, folder: str) -> None:
        """Removes a folder, if it exists."""
        fs = self._file_system
        with self._writing(), suppress(FileNotFoundError):
            # `rm` removes whatever matches its argument as a glob pattern, except on a local file system.
            if self.is_local or not has_magic(folder):
                fs.rm(folder, recursive=True)
                return
            entries = fs.find(folder, withdirs=True, detail=True)
            for path in sorted(entries, key=len, reverse=True):  # files before the folders that hold them
                if entries[path]["type"] != "directory":
                    fs.rm_file(path)
                    continue
                with suppress(OSError):  # object stores have no folders to remove
                    fs.rmdir(path)

    def _make_folder(self, path: str) -> None:
        """Creates a folder; not in object stores, where a misspelled bucket would be created."""
        if self.url.partition("://")[0] not in OBJECT_STORES:
            self._file_system.makedirs(path, exist_ok=True)

    def _put(self, content: bytes, target: str) -> None:
        """Writes a file atomically; an existing file keeps its content until then."""
        with self._writing():
            if not self.is_local:
                self._make_folder(target.rsplit("/", 1)[0])
                self._file_system.pipe_file(target, content)
                return
            with self._temporary_file(content, target) as file:
                file.replace(target)

    def _put_new(self, content: bytes, target: str, *, retry: bool = True) -> bool:
        """Writes an object that does not exist yet; False if it exists.

        After an error the object is looked up: not every server reports an existing object in a form that its
        client turns into FileExistsError, and S3 answers two concurrent writes with 409 without creating
        either. In that last case the write is retried once.
        """
        fs = self._file_system
        with self._writing():
            try:
                fs.pipe_file(target, content, mode="create")
            except FileExistsError:
                return False
            except OSError:
                if fs.exists(target):
                    return False
                if not retry:
                    raise
                return self._put_new(content, target, retry=False)
        return True

    @contextmanager
    def _temporary_file(self, content: bytes, target: str) -> Iterator[Path]:
        """A complete file on the storage's own disk, to be linked or renamed to `target`."""
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        folder = self.aside()
        try:
            (folder / "file").write_bytes(content)
            yield folder / "file"
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def is_storage_failure(error: BaseException) -> bool:
    """Whether an exception comes from a file system or a storage client, not from a fault in this code."""
    if type(error).__name__ == "ParamValidationError":  # botocore's error for an argument of a wrong type
        return False
    packages = {base.__module__.partition(".")[0] for base in type(error).__mro__}
    return isinstance(error, OSError) or not packages.isdisjoint(CLIENTS)

"""Files on any fsspec URL, each written whole or not at all.

What a store's artifacts, tables and replies are made of. On a local disk a file is written aside and
renamed; an object store shows a file only when it is whole. Where the disk is full or the storage gone the
error says so in a line: what is finished is kept, and nothing half-written takes its place.
"""

import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from undertow.errors import ReadError, StorageError, UserError, last_line
from undertow.storage.redaction import has_password

CHUNK = 2**22  # bytes read at a time
ABSENT = (FileNotFoundError, NotADirectoryError)
EXTRAS = {"s3": "aws", "s3a": "aws"}  # what a scheme needs that the package alone does not install


class Files:
    """One storage URL. Instances are cheap, hold no connection state, and travel to workers by pickle."""

    def __init__(self, url: str) -> None:
        if has_password(url):
            protocol = url.split("://")[0].upper()
            raise StorageError(
                f"--storage {protocol.lower()}://…: holds a password, which would be written into logs; "
                f"leave it out and set FSSPEC_{protocol}_PASSWORD"
            )
        self.is_relative = "://" not in url and not Path(url).expanduser().is_absolute()
        self.url = url if "://" in url else str(Path(url).expanduser().absolute())

    def __reduce__(self) -> tuple[type["Files"], tuple[str]]:
        return type(self), (self.url,)

    @cached_property
    def _place(self) -> tuple[Any, str]:
        try:
            # A client that remembers listings would not see what others have written since.
            return fsspec.core.url_to_fs(self.url, use_listings_cache=False)  # type: ignore[no-any-return]
        except ImportError as error:
            extra = EXTRAS.get(self.url.split("://")[0])
            remedy = f'pip install "undertow[{extra}]"' if extra else last_line(error)
            raise StorageError(f"--storage {self.url}: its client is not installed; {remedy}") from None
        except ValueError as error:
            raise StorageError(f"--storage {self.url}: {error}") from None

    @property
    def root(self) -> str:
        return str(self._place[1]).rstrip("/")

    @property
    def is_local(self) -> bool:
        return isinstance(self._place[0], LocalFileSystem)

    def prepare(self) -> None:
        """Creates the storage. Raises StorageError where it cannot be written, before anything is spent."""
        fs, _ = self._place
        probe = f"{self.root}/.writable-{uuid.uuid4().hex}"
        try:
            fs.makedirs(self.root, exist_ok=True)
            fs.pipe_file(probe, b"1")
            fs.rm_file(probe)
        except Exception as error:  # every filesystem has errors of its own
            raise StorageError(
                f"--storage {self.url}: cannot be written ({reason(error)}); name another place"
            ) from None

    def write_bytes(self, name: str, content: bytes) -> None:
        """Writes a file that is no artifact's (plan, table, replies): the old one or the new is there.

        Raises StorageError where the disk is full or the storage gone.
        """
        self._put(content, f"{self.root}/{name}")

    def create(self, name: str, content: bytes) -> bool:
        """Writes a file that is not there; False where it is. Of several writers one is told True."""
        target = f"{self.root}/{name}"
        if not self.is_local:
            return self._put_new(content, target)
        if os.path.lexists(target):  # said a good deal sooner than by a link that fails
            return False
        with self._writing(), self._beside(content, target) as file:
            try:
                os.link(file, target)
            except FileExistsError:
                return False
        return True

    def remove(self, name: str) -> None:
        """Removes a file that is no artifact's, if it is there."""
        with self._writing(), suppress(FileNotFoundError):
            self._place[0].rm_file(f"{self.root}/{name}")

    def names(self, folder: str) -> list[str]:
        """The sorted names of what lies in a folder of `write_bytes`; none where there is no such folder."""
        return sorted(self._listing(f"{self.root}/{folder}"))

    def read_bytes(self, name: str) -> bytes:
        """A file written by `write_bytes`, or nothing where there is none."""
        with self._reading():
            try:
                return bytes(self._place[0].cat_file(f"{self.root}/{name}"))
            except ABSENT:
                return b""

    def read_text(self, name: str) -> str:
        """A text written by `write_bytes`, or "" where there is none."""
        return self.read_bytes(name).decode()

    def aside(self) -> Path:
        """A fresh local folder to write into, on the storage's own disk: a rename commits what is in it."""
        if not self.is_local:
            return Path(tempfile.mkdtemp())
        parent = Path(self.root) / "partial" / "aside"
        with self._writing():
            parent.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(dir=parent))

    def _writing(self) -> AbstractContextManager[None]:
        return self._telling("written", StorageError)

    def _reading(self) -> AbstractContextManager[None]:
        return self._telling("read", ReadError)

    @contextmanager
    def _telling(self, done: str, kind: type[UserError]) -> Iterator[None]:
        """Turns what the filesystem says of a failure into a line that names place and remedy."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # every filesystem has errors of its own
            raise kind(
                f"--storage {self.url}: cannot be {done} ({reason(error)}); see to it and run the same "
                "command again: what is finished is kept"
            ) from error

    def _digest(self, path: str) -> str:
        """The SHA-256 of a file as it lies in the storage, as 64 hex digits; "" where there is none."""
        hashed = hashlib.sha256()
        with self._reading():
            try:
                with self._place[0].open(path, "rb") as file:
                    while block := file.read(CHUNK):
                        hashed.update(block)
            except FileNotFoundError:
                return ""
        return hashed.hexdigest()

    def _exists(self, path: str) -> bool:
        with self._reading():
            return bool(self._place[0].exists(path))

    def _listing(self, path: str) -> list[str]:
        """The names in a folder; none where there is no such folder."""
        with self._reading():
            try:
                return [PurePosixPath(p).name for p in self._place[0].ls(path, detail=False)]
            except ABSENT:
                return []

    def _drop(self, folder: str) -> None:
        """Removes a folder, if it is there."""
        with self._writing(), suppress(FileNotFoundError):
            self._place[0].rm(folder, recursive=True)

    def _put(self, content: bytes, target: str) -> None:
        """Writes a file, whole or not at all: where there was one already, the old stays until then."""
        with self._writing():
            if not self.is_local:
                self._place[0].makedirs(target.rsplit("/", 1)[0], exist_ok=True)
                self._place[0].pipe_file(target, content)
                return
            with self._beside(content, target) as file:
                file.replace(target)

    def _put_new(self, content: bytes, target: str, *, again: bool = True) -> bool:
        """Writes an object that is not there; False where it is.

        After an error it is looked for: not every server says in words that its client knows that it is
        there, and of two that write at once S3 may say no more than that they do (409). Then once again.
        """
        fs = self._place[0]
        with self._writing():
            try:
                fs.pipe_file(target, content, mode="create")
            except FileExistsError:
                return False
            except OSError:
                if fs.exists(target):
                    return False
                if not again:
                    raise
                return self._put_new(content, target, again=False)
        return True

    @contextmanager
    def _beside(self, content: bytes, target: str) -> Iterator[Path]:
        """A whole file on the storage's own disk, which a link or a rename makes the target."""
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        folder = self.aside()
        try:
            (folder / "file").write_bytes(content)
            yield folder / "file"
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def reason(error: BaseException) -> str:
    """What a filesystem's error says, in a few words."""
    return getattr(error, "strerror", None) or last_line(error)

"""Artifacts on any fsspec URL: a folder of files and a manifest, found by kind and key alone.

    <storage>/artifacts/<kind>/<key>/   manifest.json and the data files
    <storage>/partial/<kind>/<key>/     what a long stage has finished of an artifact not yet whole

A commit is atomic: on a local disk the folder is written aside and renamed; on an object store, which has
no rename, the manifest is put last. An artifact without a manifest does not exist, so a program killed at
any instant leaves whole artifacts or none. Every file's SHA-256 is in the manifest and is checked before
the artifact is used for the first time in a process.
"""

import hashlib
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from undertow.errors import StorageError, last_line
from undertow.identity import key
from undertow.manifest import MANIFEST, Address, Manifest, address, describe, sha256
from undertow.spec import Artifact

EXTRAS = {"s3": "aws", "s3a": "aws"}  # what a scheme needs that the package alone does not install


class Store:
    """One storage URL. Instances are cheap, hold no connection state, and travel to workers by pickle."""

    def __init__(self, url: str) -> None:
        self.is_relative = "://" not in url and not Path(url).expanduser().is_absolute()
        self.url = url if "://" in url else str(Path(url).expanduser().absolute())
        self._verified: set[Address] = set()

    def __reduce__(self) -> tuple[type["Store"], tuple[str]]:
        return Store, (self.url,)

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
            fs.pipe_file(probe, b"")
            fs.rm_file(probe)
        except Exception as error:  # every filesystem has errors of its own
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise StorageError(
                f"--storage {self.url}: cannot be written ({reason}); name another place"
            ) from None

    def keys(self, kind: str) -> set[str]:
        """The keys of every whole artifact of a kind: one listing, whatever their number."""
        fs, _ = self._place
        try:
            found = fs.glob(f"{self.root}/artifacts/{kind}/*/{MANIFEST}")
        except Exception as error:  # every filesystem has errors of its own
            raise StorageError(f"--storage {self.url}: cannot be read ({last_line(error)})") from None
        return {PurePosixPath(path).parent.name for path in found}

    def has(self, spec: Artifact | Address) -> bool:
        return bool(self._place[0].exists(f"{self._folder(*address(spec))}/{MANIFEST}"))

    def manifest(self, spec: Artifact | Address) -> Manifest:
        """Raises StorageError where there is no such artifact or its manifest cannot be read."""
        folder = self._folder(*address(spec))
        if not self.has(spec):
            raise StorageError(f"{self.url}: no {'/'.join(address(spec))}; run the sweep that makes it")
        return Manifest.from_json(self._place[0].cat_file(f"{folder}/{MANIFEST}"), folder)

    def aside(self) -> Path:
        """A fresh local folder to write an artifact into, on the storage's own disk: a rename commits it."""
        parent = None
        if self.is_local:
            parent = Path(self.root) / "partial" / "aside"
            parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=parent))

    def commit(self, spec: Artifact, folder: Path, seconds: float, facts: Mapping[str, Any]) -> Manifest:
        """Makes `folder` (from `aside`) the artifact of `spec`, all at once; consumes the folder.

        `seconds` is what it took to make; `facts` (row counts, rates …) go into the manifest as they are.
        """
        manifest = describe(spec, folder, seconds, facts)
        self._publish(folder, manifest)
        shutil.rmtree(folder, ignore_errors=True)
        return manifest

    @contextmanager
    def new(self, spec: Artifact, facts: Mapping[str, Any]) -> Iterator[Path]:
        """`aside` and `commit` around a block; nothing is committed when the block raises."""
        start = time.time()
        folder = self.aside()
        try:
            yield folder
            self.commit(spec, folder, time.time() - start, facts)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def fetch(self, spec: Artifact | Address) -> Path:
        """A local folder with the artifact's files, verified once a process; never write into it.

        Raises:
            StorageError: the artifact is not there, or a file is not what was committed.
        """
        place = address(spec)
        manifest = self.manifest(place)
        folder = Path(self._folder(*place)) if self.is_local else self._download(manifest)
        if place not in self._verified:
            self.verify(manifest, folder)
            self._verified.add(place)
        return folder

    def content(self, spec: Artifact | Address, name: str) -> bytes:
        """One file of an artifact, verified, without those beside it: a history without the weights.

        Raises:
            StorageError: the artifact or the file is not there, or the file is not what was committed.
        """
        folder, files = self._folder(*address(spec)), self.manifest(spec).files
        path = f"{folder}/{name}"
        if name not in files or not self._place[0].exists(path):
            raise StorageError(f"{path}: missing; delete {folder} and run again")
        content = bytes(self._place[0].cat_file(path))
        if hashlib.sha256(content).hexdigest() != files[name]:
            raise StorageError(f"{path}: changed since it was written; delete {folder} and run again")
        return content

    @staticmethod
    def verify(manifest: Manifest, folder: Path) -> None:
        """Raises StorageError naming the first file that is missing or has other bytes than committed."""
        for name, expected in manifest.files.items():
            path = folder / name
            if not path.is_file():
                raise StorageError(f"{path}: missing; delete {folder} and run again")
            if sha256(path) != expected:
                raise StorageError(f"{path}: changed since it was written; delete {folder} and run again")

    def parts(self, spec: Artifact) -> set[str]:
        """Names of the finished parts of an artifact that is not yet whole."""
        return set(self._listing(self._partial(spec)))

    def write_part(self, spec: Artifact, name: str, file: Path) -> None:
        """Stores one finished part; a part is whole or not there."""
        self._put(file.read_bytes(), f"{self._partial(spec)}/{name}")

    def read_part(self, spec: Artifact, name: str, file: Path) -> None:
        self._place[0].get_file(f"{self._partial(spec)}/{name}", str(file))

    def drop_parts(self, spec: Artifact) -> None:
        fs, folder = self._place[0], self._partial(spec)
        if fs.exists(folder):
            fs.rm(folder, recursive=True)

    def scratch(self, name: str) -> str:
        """The URL of a folder for state of no lasting value, reachable from every node."""
        return f"{(self.root if self.is_local else self.url).rstrip('/')}/partial/{name}"

    def for_arrow(self, name: str) -> dict[str, Any]:
        """A scratch folder as Ray takes one: by the client, and so the credentials, of all else here."""
        if self.is_local:
            return {"storage_path": self.scratch(name)}
        from pyarrow.fs import FSSpecHandler, PyFileSystem

        filesystem = PyFileSystem(FSSpecHandler(self._place[0]))
        return {"storage_path": f"{self.root}/partial/{name}", "storage_filesystem": filesystem}

    def drop_scratch(self, name: str) -> None:
        fs, folder = self._place[0], f"{self.root}/partial/{name}"
        if fs.exists(folder):
            fs.rm(folder, recursive=True)

    def write_bytes(self, name: str, content: bytes) -> None:
        """Writes a file that is no artifact's (plan, table, replies): the old one or the new is there."""
        self._put(content, f"{self.root}/{name}")

    def create(self, name: str, content: bytes) -> bool:
        """Writes a file that is not there; False where it is. Of several writers one is told True."""
        fs, path = self._place[0], f"{self.root}/{name}"
        try:
            if self.is_local:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                aside = self.aside() / "file"
                aside.write_bytes(content)
                try:
                    os.link(aside, path)
                finally:
                    shutil.rmtree(aside.parent, ignore_errors=True)
            else:
                fs.pipe_file(path, content, mode="create")
        except FileExistsError:
            return False
        return True

    def remove(self, name: str) -> None:
        """Removes a file or folder that is no artifact's, if it is there."""
        fs, path = self._place[0], f"{self.root}/{name}"
        with suppress(FileNotFoundError):
            fs.rm(path, recursive=True)

    def names(self, folder: str) -> list[str]:
        """The sorted names of what lies in a folder of `write_bytes`; none where there is no such folder."""
        return sorted(self._listing(f"{self.root}/{folder}"))

    def read_bytes(self, name: str) -> bytes:
        """A file written by `write_bytes`, or nothing where there is none."""
        try:
            return bytes(self._place[0].cat_file(f"{self.root}/{name}"))
        except FileNotFoundError:
            return b""

    def read_text(self, name: str) -> str:
        """A text written by `write_bytes`, or "" where there is none."""
        return self.read_bytes(name).decode()

    def _listing(self, path: str) -> list[str]:
        """The names in a folder; none where there is no such folder."""
        try:
            return [PurePosixPath(p).name for p in self._place[0].ls(path, detail=False)]
        except FileNotFoundError:
            return []

    def _folder(self, kind: str, artifact_key: str) -> str:
        return f"{self.root}/artifacts/{kind}/{artifact_key}"

    def _partial(self, spec: Artifact) -> str:
        return f"{self.root}/partial/{spec.kind}/{key(spec)}"

    def _publish(self, folder: Path, manifest: Manifest) -> None:
        text = manifest.to_json()
        target = self._folder(manifest.kind, manifest.key)
        if self.is_local:
            (folder / MANIFEST).write_text(text)
            _rename_folder(folder, Path(target))
            return
        fs = self._place[0]
        if fs.exists(f"{target}/{MANIFEST}"):  # another writer was first: its files fit its manifest
            return
        for name in manifest.files:
            fs.put_file(str(folder / name), f"{target}/{name}")
        fs.pipe_file(f"{target}/{MANIFEST}", text.encode())

    def _put(self, content: bytes, target: str) -> None:
        """Writes a file, whole or not at all: where there was one already, the old stays until then."""
        fs = self._place[0]
        fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
        if not self.is_local:
            fs.pipe_file(target, content)
            return
        folder = self.aside()
        (folder / "file").write_bytes(content)
        (folder / "file").replace(target)
        folder.rmdir()

    def _download(self, manifest: Manifest) -> Path:
        cache = Path(os.environ.get("UNDERTOW_CACHE", Path.home() / ".cache" / "undertow"))
        folder = cache / hashlib.sha256(self.url.encode()).hexdigest()[:12] / manifest.kind / manifest.key
        if (folder / MANIFEST).exists():
            if Manifest.from_json((folder / MANIFEST).read_text(), str(folder)) == manifest:
                return folder
            shutil.rmtree(folder, ignore_errors=True)  # of an artifact that was deleted and made anew
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=folder.parent))
        for name in [*manifest.files, MANIFEST]:
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            self._place[0].get_file(f"{self._folder(manifest.kind, manifest.key)}/{name}", str(aside / name))
        _rename_folder(aside, folder)
        return folder


def _rename_folder(source: Path, target: Path) -> None:
    """Moves a whole folder into place; where another writer was first, its folder stays and ours goes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and not (target / MANIFEST).exists():
        shutil.rmtree(target)
    source.chmod(0o755)  # mkdtemp makes folders that only their owner may read
    try:
        source.rename(target)
    except OSError:
        if not (target / MANIFEST).exists():
            raise
        shutil.rmtree(source, ignore_errors=True)

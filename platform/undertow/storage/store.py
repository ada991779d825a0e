"""Artifacts on any fsspec URL: a folder of files and a manifest, found by kind and key alone.

    <storage>/artifacts/<kind>/<key>/   manifest.json and the data files
    <storage>/partial/<kind>/<key>/     what a long stage has finished of an artifact not yet whole
    <storage>/damaged/<kind>/<key>-…/   what was set aside because its bytes were no longer those committed

A commit is atomic: on a local disk the folder is written aside and renamed; on an object store, which has
no rename, each writer puts its files into a folder of its own, and then the manifest, which names that
folder: the first counts. An artifact without a manifest does not exist, so a program killed at any instant
leaves whole artifacts or none. Every file's SHA-256 is in the manifest and is checked before the artifact is
used for the first time in a process.
"""

import hashlib
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from undertow.errors import StorageError
from undertow.storage.files import Files
from undertow.storage.manifest import MANIFEST, REMEDY, Address, Manifest, address, describe, sha256
from undertow.study.artifacts import Artifact
from undertow.study.identity import key

MISSING, CHANGED = "missing", "changed since it was written"


class Store(Files):
    """One storage URL with its artifacts, and the parts of those that are not yet whole."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._verified: set[Address] = set()

    def keys(self, kind: str) -> set[str]:
        """The keys of every whole artifact of a kind: one listing, whatever their number."""
        with self._reading():
            found = self._place[0].glob(f"{self.root}/artifacts/{kind}/*/{MANIFEST}")
        return {PurePosixPath(path).parent.name for path in found}

    def has(self, spec: Artifact | Address) -> bool:
        return self._exists(f"{self._folder(*address(spec))}/{MANIFEST}")

    def manifest(self, spec: Artifact | Address) -> Manifest:
        """Raises StorageError where there is no such artifact or its manifest cannot be read."""
        place = address(spec)
        file = f"{self._folder(*place)}/{MANIFEST}"
        if not self.has(place):
            raise StorageError(f"{self.url}: no {'/'.join(place)}; run the sweep that makes it")
        with self._reading():
            content = self._place[0].cat_file(file)
        try:
            manifest = Manifest.from_json(content, file)
        except StorageError as error:
            raise StorageError(f"{error}; {REMEDY}") from None
        if (manifest.kind, manifest.key) != place:
            raise StorageError(f"{file}: tells of another artifact, {manifest.kind}/{manifest.key}; {REMEDY}")
        return manifest

    def place(self, manifest: Manifest) -> str:
        """The URL or path of the folder that an artifact's files lie in."""
        return f"{self.url.rstrip('/')}{self._data(manifest).removeprefix(self.root)}"

    def commit(self, spec: Artifact, folder: Path, seconds: float, facts: Mapping[str, Any]) -> Manifest:
        """Makes `folder` (from `aside`) the artifact of `spec`, all at once; consumes the folder.

        `seconds` is what it took to make; `facts` (row counts, rates …) go into the manifest as they are.
        """
        with self._writing():
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
        folder = Path(self._data(manifest)) if self.is_local else self._download(manifest)
        if place in self._verified:
            return folder
        if not self.is_local and _damaged(manifest, folder):  # the copy here, of another making perhaps
            shutil.rmtree(folder)
            folder = self._download(manifest)
        for name, damage in _damaged(manifest, folder).items():
            raise self._damage(place, name, damage)
        self._verified.add(place)
        return folder

    def content(self, spec: Artifact | Address, name: str) -> bytes:
        """One file of an artifact, verified, without those beside it: a history without the weights.

        Raises:
            StorageError: the artifact or the file is not there, or the file is not what was committed.
        """
        place, manifest = address(spec), self.manifest(spec)
        path = f"{self._data(manifest)}/{name}"
        if name not in manifest.files or not self._exists(path):
            raise self._damage(place, name, MISSING)
        with self._reading():
            content = bytes(self._place[0].cat_file(path))
        if hashlib.sha256(content).hexdigest() != manifest.files[name]:
            raise self._damage(place, name, CHANGED)
        return content

    def damage(self, spec: Artifact | Address) -> list[str]:
        """What is wrong with an artifact as it lies in the storage, a line a file; [] where it is whole."""
        place = address(spec)
        try:
            manifest = self.manifest(place)
        except StorageError as error:
            return [str(error)]
        found = {name: self._digest(f"{self._data(manifest)}/{name}") for name in manifest.files}
        return [
            str(self._damage(place, name, CHANGED if found[name] else MISSING))
            for name, expected in manifest.files.items()
            if found[name] != expected
        ]

    def set_aside(self, spec: Artifact | Address) -> str:
        """Moves an artifact out of the way, so that it can be made anew; returns where it went."""
        place = address(spec)
        target = f"damaged/{place.kind}/{place.key}-{time.time_ns()}"
        fs, source = self._place[0], self._folder(*place)
        with self._writing():
            fs.makedirs(f"{self.root}/damaged/{place.kind}", exist_ok=True)
            if self.is_local:
                fs.mv(source, f"{self.root}/{target}")
            else:
                for path in fs.find(source):  # `mv` fails on S3 where there are folders in it
                    fs.cp_file(path, f"{self.root}/{target}{path.removeprefix(source)}")
                fs.rm(source, recursive=True)
        self._verified.discard(place)
        return target

    def _damage(self, place: Address, name: str, what: str) -> StorageError:
        return StorageError(f"{self._folder(*place)}/{name}: {what}; {REMEDY}")

    def parts(self, spec: Artifact) -> set[str]:
        """Names of the finished parts of an artifact that is not yet whole; what was damaged is none."""
        return set(self._parts(spec))

    def write_part(self, spec: Artifact, name: str, file: Path) -> None:
        """Stores one finished part, under its name and its hash; a part is whole or not there."""
        self._put(file.read_bytes(), f"{self._partial(spec)}/{name}.{sha256(file)}")

    def read_part(self, spec: Artifact, name: str, file: Path) -> None:
        """Copies a finished part to `file`. Raises StorageError where it is not there or damaged."""
        if (path := self._parts(spec, name).get(name)) is None:
            raise StorageError(f"{self._partial(spec)}/{name}: {MISSING} or changed; run the sweep again")
        with self._reading():
            self._place[0].get_file(path, str(file))

    def drop_parts(self, spec: Artifact) -> None:
        self._drop(self._partial(spec))

    def _parts(self, spec: Artifact, wanted: str = "") -> dict[str, str]:
        """The paths of finished parts (or of one), by name: files with the bytes that they are named for."""
        folder, found = self._partial(spec), {}
        for file in self._listing(folder):
            name, _, hashed = file.rpartition(".")
            if name and wanted in ("", name) and self._digest(f"{folder}/{file}") == hashed:
                found[name] = f"{folder}/{file}"
        return found

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
        self._drop(f"{self.root}/partial/{name}")

    def _folder(self, kind: str, artifact_key: str) -> str:
        """Raises StorageError for what would lead out of the storage: an address may come from a file."""
        if not (kind.isalnum() and artifact_key.isalnum()):
            raise StorageError(f"{self.url}: {kind!r} and {artifact_key!r} name no artifact")
        return f"{self.root}/artifacts/{kind}/{artifact_key}"

    def _data(self, manifest: Manifest) -> str:
        """The folder of an artifact's files."""
        return f"{self._folder(manifest.kind, manifest.key)}/{manifest.writer}".rstrip("/")

    def _partial(self, spec: Artifact) -> str:
        return f"{self.root}/partial/{spec.kind}/{key(spec)}"

    def _publish(self, folder: Path, manifest: Manifest) -> None:
        target = self._folder(manifest.kind, manifest.key)
        if self.is_local:
            (folder / MANIFEST).write_text(manifest.to_json())
            _rename_folder(folder, Path(target))
            return
        fs, path = self._place[0], f"{target}/{MANIFEST}"
        if fs.exists(path):  # another writer was first
            return
        manifest = replace(manifest, writer=uuid.uuid4().hex)
        for name in manifest.files:
            fs.put_file(str(folder / name), f"{self._data(manifest)}/{name}")
        if self._put_new(manifest.to_json().encode(), path):
            return
        # Another was first, or we were, and the store's answer was lost on the way.
        if Manifest.from_json(fs.cat_file(path), target).writer != manifest.writer:
            self._drop(self._data(manifest))

    def _download(self, manifest: Manifest) -> Path:
        cache = Path(os.environ.get("UNDERTOW_CACHE", Path.home() / ".cache" / "undertow"))
        folder = cache / hashlib.sha256(self.url.encode()).hexdigest()[:12] / manifest.kind / manifest.key
        if (folder / MANIFEST).exists():
            if Manifest.from_json((folder / MANIFEST).read_text(), str(folder)) == manifest:
                return folder
            shutil.rmtree(folder, ignore_errors=True)  # of an artifact that was deleted and made anew
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=folder.parent))
        (aside / MANIFEST).write_text(manifest.to_json())
        for name in manifest.files:
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            with self._reading():
                self._place[0].get_file(f"{self._data(manifest)}/{name}", str(aside / name))
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


def _damaged(manifest: Manifest, folder: Path) -> dict[str, str]:
    """What is wrong with the files of a local folder, by name."""
    found = {}
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            found[name] = MISSING
        elif sha256(path) != expected:
            found[name] = CHANGED
    return found

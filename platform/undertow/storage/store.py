"""The artifact store on any fsspec URL: each artifact is a folder with a manifest, found by kind and key.

    <storage>/artifacts/<kind>/<key>/   manifest.json and the data files
    <storage>/partial/<kind>/<key>/     finished parts of an artifact that a long stage is still making
    <storage>/damaged/<kind>/<key>-…/   artifacts that were set aside because their bytes had changed

A commit is atomic. On a local disk the folder is written under a temporary name and renamed. An object
store has no rename, so each writer uploads its files into its own subfolder and then creates the manifest,
which names that subfolder; the first manifest wins. An artifact without a manifest does not exist, so a
program that is killed at any instant leaves complete artifacts or none. The manifest holds every file's
SHA-256, which is checked before a process uses the artifact for the first time.
"""

import errno
import hashlib
import platform
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from undertow.errors import ReadError, StorageError, UserError
from undertow.prompts.web_files import cache_folder
from undertow.storage.files import Files
from undertow.storage.local_files import reason, set_permissions
from undertow.storage.manifest import MANIFEST, REMEDY, Address, Manifest, address, describe, sha256
from undertow.study.identity import digest, key
from undertow.study.references import Artifact

MISSING, CHANGED = "missing", "changed since it was written"
# Errors of a local disk that clients of object stores do not raise.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)


class Store(Files):
    """The artifacts of one storage URL, and the finished parts of artifacts in progress."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._verified: set[Address] = set()  # by `fetch`
        self._intact: set[Address] = set()  # by `check`

    def keys(self, kind: str) -> set[str]:
        """The keys of all complete artifacts of a kind, from a single listing."""
        folder = f"{self.root}/artifacts/{kind}"
        if self.is_local:  # not `find`, which takes a folder that cannot be read for an empty one
            return {name for name in self._listing(folder) if self._exists(f"{folder}/{name}/{MANIFEST}")}
        # An object store lists everything below a prefix at once; with a depth, it would be asked once more
        # for each artifact. Not `glob`: the storage's path may contain characters that it would interpret.
        with self._reading():
            found = self._file_system.find(folder)
        manifests = (path for path in map(PurePosixPath, found) if path.name == MANIFEST)
        return {path.parent.name for path in manifests if path.parent.parent.name == kind}

    def has(self, spec: Artifact | Address) -> bool:
        """Whether a complete artifact exists; its files are not verified."""
        return self._exists(f"{self._folder(*address(spec))}/{MANIFEST}")

    def manifest(self, spec: Artifact | Address) -> Manifest:
        """The manifest of an artifact. Raises StorageError if it does not exist or cannot be parsed."""
        place = address(spec)
        file = f"{self._folder(*place)}/{MANIFEST}"
        if not self.has(place):
            raise StorageError(f"{self.url}: {place} does not exist; run the sweep that makes it")
        with self._reading():
            content = self._file_system.cat_file(file)
        try:
            manifest = Manifest.from_json(content, file)
        except StorageError as error:
            raise StorageError(f"{error}; {REMEDY}") from None
        if (manifest.kind, manifest.key) != place:
            raise StorageError(
                f"{file}: describes another artifact, {manifest.kind}/{manifest.key}; {REMEDY}"
            )
        return manifest

    def place(self, manifest: Manifest) -> str:
        """The URL or path of the folder of an artifact's files."""
        return f"{self.url.rstrip('/')}{self._data(manifest).removeprefix(self.root)}"

    def commit(self, spec: Artifact, folder: Path, seconds: float, facts: Mapping[str, Any]) -> Manifest:
        """Commits `folder` (from `aside`) atomically as the artifact of `spec`, and removes the folder.

        `seconds` is the time that it took to make; `facts` (row counts, rates …) are stored in the manifest.
        """
        with self._writing():
            manifest = describe(spec, folder, seconds, facts)
            self._publish(folder, manifest)
        shutil.rmtree(folder, ignore_errors=True)
        return manifest

    @contextmanager
    def new(self, spec: Artifact, facts: Mapping[str, Any]) -> Iterator[Path]:
        """A context manager that yields a folder to write into and commits it, unless the block raises."""
        start = time.time()
        folder = self.aside()
        try:
            yield folder
            self.commit(spec, folder, time.time() - start, facts)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def fetch(self, spec: Artifact | Address) -> Path:
        """A local folder with the artifact's files, verified once per process. Callers must not write into
        it.

        Raises:
            StorageError: the artifact does not exist, or a file differs from what was committed.
        """
        place = address(spec)
        manifest = self.manifest(place)
        folder = Path(self._data(manifest)) if self.is_local else self._download(manifest)
        if place in self._verified:
            return folder
        if not self.is_local and _damaged(manifest, folder):  # only the local copy may be damaged
            shutil.rmtree(folder)
            folder = self._download(manifest)
        for name, damage in _damaged(manifest, folder).items():
            raise self._damage(place, name, damage)
        self._verified.add(place)
        return folder

    def check(self, spec: Artifact | Address) -> None:
        """Verifies an artifact in the storage, once per process, and keeps no copy of it on this machine.

        Raises StorageError as `fetch` does.
        """
        place = address(spec)
        if self.is_local:
            self.fetch(place)  # makes no copy
        elif place not in self._intact:
            for line in self.damage(place):
                raise StorageError(line)
            self._intact.add(place)

    def size(self, manifest: Manifest) -> int:
        """The bytes of an artifact's files."""
        with self._reading():
            folder = self._data(manifest)
            return sum(int(self._file_system.size(f"{folder}/{name}")) for name in manifest.files)

    def content(self, spec: Artifact | Address, name: str) -> bytes:
        """One verified file of an artifact, read without the others (a history without the weights).

        Raises:
            StorageError: the artifact or the file does not exist, or the file differs from what was
            committed.
        """
        place, manifest = address(spec), self.manifest(spec)
        path = f"{self._data(manifest)}/{name}"
        if name not in manifest.files or not self._exists(path):
            raise self._damage(place, name, MISSING)
        with self._reading():
            content = bytes(self._file_system.cat_file(path))
        if hashlib.sha256(content).hexdigest() != manifest.files[name]:
            raise self._damage(place, name, CHANGED)
        return content

    def damage(self, spec: Artifact | Address) -> list[str]:
        """The damage of an artifact in the storage, one line per damaged file; empty if it is intact."""
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
        """Moves an artifact to damaged/, so that it can be made again; returns its new path."""
        place = address(spec)
        target = f"damaged/{place.kind}/{place.key}-{time.time_ns()}"
        fs, source = self._file_system, self._folder(*place)
        with self._writing():
            self._make_folder(f"{self.root}/damaged/{place.kind}")
            if self.is_local:
                fs.mv(source, f"{self.root}/{target}")
            else:
                for path in fs.find(source):  # `mv` fails on S3 if the folder has subfolders
                    fs.cp_file(path, f"{self.root}/{target}{path.removeprefix(source)}")
                self._drop(source)
        self._verified.discard(place)
        self._intact.discard(place)
        return target

    def _damage(self, place: Address, name: str, damage: str) -> StorageError:
        return StorageError(f"{self._folder(*place)}/{name}: {damage}; {REMEDY}")

    def parts(self, spec: Artifact) -> set[str]:
        """The names of the finished, undamaged parts of an artifact in progress."""
        return set(self._parts(spec))

    def write_part(self, spec: Artifact, name: str, content: bytes) -> None:
        """Stores one finished part atomically, under its name and its hash."""
        self._put(content, f"{self._partial(spec)}/{name}.{hashlib.sha256(content).hexdigest()}")

    def read_part(self, spec: Artifact, name: str) -> bytes:
        """The content of a finished part. Raises StorageError if it is missing or damaged."""
        if (path := self._parts(spec, name).get(name)) is None:
            raise StorageError(f"{self._partial(spec)}/{name}: {MISSING} or changed; run the sweep again")
        with self._reading():
            return bytes(self._file_system.cat_file(path))

    def drop_parts(self, spec: Artifact) -> None:
        """Removes all parts of an artifact."""
        self._drop(self._partial(spec))

    def _parts(self, spec: Artifact, wanted: str = "") -> dict[str, str]:
        """The paths of all finished parts, or of the `wanted` one, by name.

        A part counts as finished if its bytes have the hash in its file name.
        """
        folder, found = self._partial(spec), {}
        for file in self._listing(folder):
            name, _, hashed = file.rpartition(".")
            if name and wanted in ("", name) and self._digest(f"{folder}/{file}") == hashed:
                found[name] = f"{folder}/{file}"
        return found

    def scratch(self, name: str) -> str:
        """The URL of a folder for temporary state that every node can reach."""
        return f"{(self.root if self.is_local else self.url).rstrip('/')}/partial/{name}"

    def for_arrow(self, name: str) -> dict[str, Any]:
        """A scratch folder as arguments for Ray, which then uses the client and credentials of this store."""
        if self.is_local:
            return {"storage_path": self.scratch(name)}
        from pyarrow.fs import FSSpecHandler, PyFileSystem

        filesystem = PyFileSystem(FSSpecHandler(self._file_system))
        return {"storage_path": f"{self.root}/partial/{name}", "storage_filesystem": filesystem}

    def drop_scratch(self, name: str) -> None:
        """Removes a scratch folder, if it exists."""
        self._drop(f"{self.root}/partial/{name}")

    def _folder(self, kind: str, artifact_key: str) -> str:
        """The folder of an artifact.

        Raises StorageError for an address that points outside the storage, since it may come from a file.
        """
        if not (kind.replace("_", "").isalnum() and artifact_key.isalnum()):
            raise StorageError(
                f"{self.url}: {kind!r} and {artifact_key!r} are not the kind and key of an artifact"
            )
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
        fs, path = self._file_system, f"{target}/{MANIFEST}"
        if fs.exists(path):  # another writer has committed it
            return
        manifest = replace(manifest, writer=uuid.uuid4().hex)
        for name in manifest.files:
            fs.put_file(str(folder / name), f"{self._data(manifest)}/{name}")
        if self._put_new(manifest.to_json().encode(), path):
            self._drop_interrupted(manifest)
            return
        # Either another writer committed first, or this one did and the server's answer was lost.
        if Manifest.from_json(fs.cat_file(path), target).writer != manifest.writer:
            self._drop(self._data(manifest))

    def _drop_interrupted(self, manifest: Manifest) -> None:
        """Removes what killed writers of an artifact have uploaded, after another one has committed it."""
        folder = self._folder(manifest.kind, manifest.key)
        with suppress(UserError):  # the artifact is complete without it
            for name in set(self._listing(folder)) - {manifest.writer, MANIFEST}:
                self._drop(f"{folder}/{name}")

    def _download(self, manifest: Manifest) -> Path:
        folder = cache_folder() / digest(self.url)[:12] / manifest.kind / manifest.key
        content = manifest.to_json().encode()
        with self._reading(), _naming_the_cache():
            if (folder / MANIFEST).exists():
                if (folder / MANIFEST).read_bytes() == content:
                    return folder
                # The artifact was deleted and made again, or the copy is damaged.
                shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(dir=folder.parent))
            try:
                (aside / MANIFEST).write_bytes(content)
                for name in manifest.files:
                    (aside / name).parent.mkdir(parents=True, exist_ok=True)
                    self._file_system.get_file(f"{self._data(manifest)}/{name}", str(aside / name))
                _rename_folder(aside, folder)
            finally:
                shutil.rmtree(aside, ignore_errors=True)  # after an error; otherwise it was renamed
        return folder


@contextmanager
def _naming_the_cache() -> Iterator[None]:
    """Reports that this machine's cache cannot be written; the storage would be taken for the cause."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise ReadError(
            f"{cache_folder()}: the cache of {platform.node()} cannot be written ({reason(error)}); free "
            "some space, or set UNDERTOW_CACHE to another folder, and run the same command again"
        ) from error


def _rename_folder(source: Path, target: Path) -> None:
    """Renames a complete folder to `target`; if another writer was first, its folder is kept instead."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and not (target / MANIFEST).exists():
        shutil.rmtree(target)
    set_permissions(source)
    try:
        source.rename(target)
    except OSError:
        if not (target / MANIFEST).exists():
            raise
        shutil.rmtree(source, ignore_errors=True)


def _damaged(manifest: Manifest, folder: Path) -> dict[str, str]:
    """The damage of the files of a local folder, by name."""
    found = {}
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            found[name] = MISSING
        elif sha256(path) != expected:
            found[name] = CHANGED
    return found

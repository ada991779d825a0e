"""Checks of a storage after any kill: complete artifacts or none, each made once, with the same bytes.

The bytes are compared with those of an undisturbed sweep by the hashes in the manifests. Training
histories and the times in manifests are not compared, because they contain measured seconds.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undertow.storage.manifest import MANIFEST, Address
from undertow.storage.store import Store

TIMED = ("history.json",)  # files that contain measured seconds


@dataclass(frozen=True)
class Made:
    """One artifact: the inode of its folder, the time of its making, and the hashes of its files."""

    inode: int
    created: float
    files: Mapping[str, str]


def made(storage: Path) -> dict[Address, Made]:
    """All artifacts with a manifest."""
    found = {}
    for file in storage.glob(f"artifacts/*/*/{MANIFEST}"):
        manifest: dict[str, Any] = json.loads(file.read_text())
        files = {name: hashed for name, hashed in manifest["files"].items() if name not in TIMED}
        place = Address(file.parent.parent.name, file.parent.name)
        found[place] = Made(file.parent.stat().st_ino, manifest["created"], files)
    return found


def half_written(storage: Path) -> list[str]:
    """The damage of artifacts with a manifest."""
    store = Store(str(storage))
    return [line for place in made(storage) for line in store.damage(place)]


def made_again(before: Mapping[Address, Made], after: Mapping[Address, Made]) -> list[str]:
    """Artifacts that were complete before a kill and were made again after it."""
    return [f"{'/'.join(place)} was made again" for place, old in before.items() if after.get(place) != old]


def different(undisturbed: Mapping[Address, Made], found: Mapping[Address, Made]) -> list[str]:
    """Artifacts and files that differ from those of an undisturbed sweep."""
    lines = [f"{'/'.join(place)} is missing" for place in undisturbed if place not in found]
    lines += [
        f"{'/'.join(place)} is not an artifact of the study" for place in found if place not in undisturbed
    ]
    for place in undisturbed.keys() & found.keys():
        one, other = undisturbed[place].files, found[place].files
        names = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
        lines += [f"{'/'.join(place)}/{name} differs" for name in names]
    return lines


def missing_runs(uri: str, undisturbed: Mapping[Address, Made]) -> list[str]:
    """Data sets, teachers and students without exactly one finished run on an MLflow server."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    (experiment,) = client.search_experiments(filter_string="name = 'chaos'")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    logged = [run.data.tags.get("undertow.key") for run in runs if run.info.status == "FINISHED"]
    known = [place for place in undisturbed if place.kind in ("dataset", "teacher", "student")]
    return [
        f"MLflow has {logged.count(place.key)} runs of {'/'.join(place)}"
        for place in known
        if logged.count(place.key) != 1
    ]

"""What must hold of a storage, whatever was killed: whole artifacts or none, each made once, the same data.

Bytes are compared with those of an undisturbed sweep, by the hashes in the manifests. Left out are a
training's history, which holds seconds, and the seconds in a manifest itself.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undertow.storage.manifest import MANIFEST, Address
from undertow.storage.store import Store

TIMED = ("history.json",)  # files that hold seconds


@dataclass(frozen=True)
class Made:
    """One artifact: the identity of its folder, when it was made, and what its files hash to."""

    inode: int
    created: float
    files: Mapping[str, str]


def made(storage: Path) -> dict[Address, Made]:
    """Every artifact that counts as finished."""
    found = {}
    for file in storage.glob(f"artifacts/*/*/{MANIFEST}"):
        manifest: dict[str, Any] = json.loads(file.read_text())
        files = {name: hashed for name, hashed in manifest["files"].items() if name not in TIMED}
        place = Address(file.parent.parent.name, file.parent.name)
        found[place] = Made(file.parent.stat().st_ino, manifest["created"], files)
    return found


def half_written(storage: Path) -> list[str]:
    """What is wrong with artifacts that count as finished; nothing may be."""
    store = Store(str(storage))
    return [line for place in made(storage) for line in store.damage(place)]


def made_again(before: Mapping[Address, Made], after: Mapping[Address, Made]) -> list[str]:
    """Artifacts that were finished before a kill and are others after it."""
    return [f"{'/'.join(place)} was made again" for place, its in before.items() if after.get(place) != its]


def different(undisturbed: Mapping[Address, Made], found: Mapping[Address, Made]) -> list[str]:
    """Artifacts and files that an undisturbed sweep has otherwise."""
    lines = [f"{'/'.join(place)} is missing" for place in undisturbed if place not in found]
    lines += [f"{'/'.join(place)} is nobody's" for place in found if place not in undisturbed]
    for place in undisturbed.keys() & found.keys():
        one, other = undisturbed[place].files, found[place].files
        names = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
        lines += [f"{'/'.join(place)}/{name} differs" for name in names]
    return lines


def left_aside(storage: Path) -> int:
    """Files under partial/: a killed writer's halves, which nobody reads."""
    return sum(path.is_file() for path in storage.glob("partial/**/*"))


def untold(uri: str, undisturbed: Mapping[Address, Made]) -> list[str]:
    """Data sets, teachers and students that an MLflow server knows no finished run of."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    (experiment,) = client.search_experiments(filter_string="name = 'chaos'")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    told = [run.data.tags.get("undertow.key") for run in runs if run.info.status == "FINISHED"]
    known = [place for place in undisturbed if place.kind in ("dataset", "teacher", "student")]
    return [
        f"MLflow has {told.count(place.key)} runs of {'/'.join(place)}"
        for place in known
        if told.count(place.key) != 1
    ]

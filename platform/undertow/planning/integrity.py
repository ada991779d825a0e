"""Integrity of a study's artifacts in the store: inspection, repair and cleanup.

A sweep verifies an artifact when it uses it; `inspect` verifies all of them byte by byte. A damaged
artifact that is set aside is missing from then on, so the next plan makes it again under the same key.
Artifacts that were made from it are kept.
"""

import shutil
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from undertow.errors import StorageError
from undertow.planning.plan import Plan
from undertow.storage.leases import LEASES, OWNERS, Leases, leased_artifacts
from undertow.storage.manifest import Address, address
from undertow.storage.store import Store

READERS = 4  # artifacts that are read concurrently
UNUSED_SECONDS = 24 * 3600.0  # without a write, until a temporary folder counts as abandoned
RAY_SCRATCH = "ray-"  # partial/ray-<first digits of a model's key>: Ray's state of one training
PROBE = "reach-"  # partial/reach-…: the file by which nodes are checked to see the storage


@dataclass(frozen=True)
class Inspection:
    """The result of `inspect`: how many artifacts exist, and the damage of those that are damaged."""

    existing: int
    damaged: dict[Address, list[str]]


def inspect(plan: Plan, store: Store) -> Inspection:
    """Verifies every existing artifact of a plan, and the benchmarks of its models."""
    planned = [address(artifact) for artifact in plan.artifacts.values()]
    keys = {kind: store.keys(kind) for kind in {place.kind for place in planned}}
    existing = [place for place in planned if place.key in keys[place.kind]]
    benchmarks = [Address("benchmark", key) for key in sorted(store.keys("benchmark"))]
    existing += [benchmark for benchmark in benchmarks if _concerns(benchmark, plan, store)]
    with ThreadPoolExecutor(READERS) as readers:
        damage = dict(zip(existing, readers.map(store.damage, existing), strict=True))
    return Inspection(len(existing), {place: lines for place, lines in damage.items() if lines})


def _concerns(benchmark: Address, plan: Plan, store: Store) -> bool:
    """Whether a benchmark is of one of the plan's models; True if its manifest cannot be read."""
    try:
        return any(key in plan.artifacts for key in store.manifest(benchmark).inputs.values())
    except StorageError:
        return True


def repair(damaged: Iterable[Address], store: Store) -> list[str]:
    """Sets damaged artifacts aside; returns one line per artifact with its new location."""
    return [f"{place}: set aside in {store.url}/{store.set_aside(place)}" for place in damaged]


def tidy(plan: Plan, store: Store) -> None:
    """Removes the files that killed sweeps left behind, and nothing that a living sweep uses.

    These are the parts and checkpoints of artifacts that are complete by now, old temporary folders, owner
    files and leases of sweeps that have certainly ended, and Ray's state of trainings that no living sweep
    runs.
    """
    for place in ("completions", "checkpoints"):
        for name in plan.artifacts.keys() & set(store.names(f"partial/{place}")):
            if name not in plan.missing:
                store.drop_scratch(f"{place}/{name}")
    if store.names(LEASES):
        with Leases(store) as leases:
            leases.release_abandoned()
    # A long training writes nothing for days into the folder with its kept steps.
    if store.is_local and not store.names(OWNERS):
        for folder in Path(store.root, "partial", "aside").glob("*"):
            if _is_unused(folder):
                shutil.rmtree(folder, ignore_errors=True)
    _drop_scratch(store)


def _drop_scratch(store: Store) -> None:
    """Removes the Ray state of trainings without a lease, and old probes.

    A sweep holds the lease of a model from before its training starts until after its end, so a folder
    without a lease is in use by no living sweep. The leases are read again for each folder, because another
    sweep may take one meanwhile.
    """
    for name in store.names("partial"):
        if name.startswith(RAY_SCRATCH):
            digits = name.removeprefix(RAY_SCRATCH)
            if not any(place.key.startswith(digits) for place in leased_artifacts(store)):
                store.drop_scratch(name)
    probes = [f"partial/{name}" for name in store.names("partial") if name.startswith(PROBE)]
    for name, age in store.ages(probes).items():
        if age > UNUSED_SECONDS:
            store.remove(name)


def _is_unused(folder: Path) -> bool:
    """Whether nothing in a folder was written for UNUSED_SECONDS."""
    try:
        times = [file.stat().st_mtime for file in (folder, *folder.rglob("*"))]
    except OSError:  # another process is changing the folder
        return False
    return time.time() - max(times) > UNUSED_SECONDS

"""A study's artifacts looked through, byte by byte: what is damaged is named, and set aside on request.

A sweep checks what it uses when it uses it; this checks everything, used or not. What is set aside is missing
from then on, so that the next plan makes it anew, with the very same key; nothing made from it is touched.
"""

import shutil
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from undertow.errors import StorageError
from undertow.planning.plan import Plan
from undertow.storage.manifest import Address, address
from undertow.storage.store import Store

READERS = 4  # artifacts read at a time
FORGOTTEN = 24 * 3600.0  # seconds: nobody writes an artifact's files for so long


@dataclass(frozen=True)
class Inspection:
    """What a look at a study's artifacts came to: those that are there, and what is wrong with which."""

    there: int
    damaged: dict[Address, list[str]]


def inspect(plan: Plan, store: Store) -> Inspection:
    """Reads every artifact of a plan that is there, benchmarks of its models included."""
    there = _there(plan, store)
    with ThreadPoolExecutor(READERS) as readers:
        found = dict(zip(there, readers.map(store.damage, there), strict=True))
    return Inspection(len(there), {place: lines for place, lines in found.items() if lines})


def repair(damaged: Iterable[Address], store: Store) -> list[str]:
    """Sets damaged artifacts aside; says of each where it went."""
    return [f"{'/'.join(place)}: set aside in {store.url}/{store.set_aside(place)}" for place in damaged]


def tidy(plan: Plan, store: Store) -> None:
    """Removes what killed programs left: parts and checkpoints of what is whole, and old folders."""
    for place in ("completions", "checkpoints"):
        for name in plan.artifacts.keys() & set(store.names(f"partial/{place}")):
            if name not in plan.missing:
                store.drop_scratch(f"{place}/{name}")
    if store.is_local:
        for folder in Path(store.root, "partial", "aside").glob("*"):
            if _is_forgotten(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_forgotten(folder: Path) -> bool:
    """Whether nobody has written to a folder for long."""
    try:
        times = [file.stat().st_mtime for file in (folder, *folder.rglob("*"))]
    except OSError:  # somebody is at work there
        return False
    return time.time() - max(times) > FORGOTTEN


def _there(plan: Plan, store: Store) -> Sequence[Address]:
    every = [address(artifact) for artifact in plan.artifacts.values()]
    there = {kind: store.keys(kind) for kind in {place.kind for place in every}}
    found = [place for place in every if place.key in there[place.kind]]
    return found + [place for place in _benchmarks(store) if _is_about(place, plan, store)]


def _benchmarks(store: Store) -> list[Address]:
    return [Address("benchmark", key) for key in sorted(store.keys("benchmark"))]


def _is_about(benchmark: Address, plan: Plan, store: Store) -> bool:
    """Whether a benchmark is of one of the plan's models, or nobody can say of which."""
    try:
        return any(key in plan.artifacts for key in store.manifest(benchmark).inputs.values())
    except StorageError:
        return True

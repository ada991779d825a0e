"""Leases that divide the work among concurrent sweeps on one storage; a heartbeat keeps them alive.

    <storage>/claims/owners/<owner>              one file per running sweep: its process and its heartbeat
    <storage>/claims/<kind>/<key>-<number>       a lease: its owner's name

Of several leases of an artifact the one with the highest number is valid, while its owner is alive. An owner
whose process has ended is dead immediately for processes of the same process table (see `owner`). For all
others it is dead once its heartbeat has not changed for EXPIRY_SECONDS, measured by the clock of the
observer, so that clocks need not agree. A lease of a dead owner is taken over by creating a file with the
next number. Lease files are never replaced or renamed, and of several sweeps that try to take over exactly
one succeeds, because a file is either created or found to exist. A sweep that releases a lease removes its
own file and those with lower numbers. It does not remove the folder, because other sweeps may be about to
write into it.

Leases save work; they do not protect data, because artifacts are committed atomically without them. At
worst an artifact is made twice: by an owner that was cut off so long that it was taken for dead, or on a
storage without conditional writes. S3, Google Cloud Storage and local file systems have conditional writes.
"""

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

from undertow.storage.manifest import Address, address
from undertow.storage.owner import Owner
from undertow.storage.store import Store
from undertow.study.identity import key
from undertow.study.references import Artifact

HEARTBEAT_SECONDS = 10.0
EXPIRY_SECONDS = 60.0  # without a heartbeat, until others may take a lease over
ABANDONED_SECONDS = 24 * 3600.0  # without a heartbeat, until the files of a sweep elsewhere are removed
POLL_SECONDS = 2.0  # between the first two checks for an artifact that another sweep is making
POLL_GROWTH = 1.5  # up to a heartbeat, because an object store charges for each request
CONCURRENT_REQUESTS = 16  # each lease costs one to three round trips to an object store
LEASES = "claims"
OWNERS = "claims/owners"

T = TypeVar("T", bound=Artifact)
P = TypeVar("P", bound=Artifact | Address)
R = TypeVar("R")


class Leases:
    """One sweep's leases on a storage; a context manager that sends the heartbeat while it is active."""

    def __init__(
        self, store: Store, heartbeat: float = HEARTBEAT_SECONDS, expiry: float = EXPIRY_SECONDS
    ) -> None:
        self.store, self.heartbeat, self.expiry = store, heartbeat, expiry
        self.owner = uuid.uuid4().hex
        self._numbers: dict[Address, int] = {}  # of the held leases
        # Per owner: its last beat, and when that was first seen.
        self._seen: dict[str, tuple[int, float]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_ended, daemon=True)

    def __enter__(self) -> "Leases":
        self._write_beat(0)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes the owner file, which voids the sweep's leases: waiting sweeps continue at once."""
        self._ended.set()
        self._thread.join()
        self.store.remove(f"{OWNERS}/{self.owner}")

    def share(
        self,
        possible: Callable[[], Sequence[T]],
        make: Callable[[list[T]], object],
        report: Callable[[str], object],
        by: Callable[[T], Artifact] = lambda artifact: artifact,
        choose: Callable[[list[T], list[T]], list[T]] = lambda mine, todo: mine,
    ) -> None:
        """Makes those of the `possible` artifacts that no other sweep is making, and waits for the others.

        Args:
            possible: returns the missing artifacts that can be made now; called again until none is left.
            make: makes some of the artifacts; it may leave out those that cannot be made.
            report: called with one line when there is nothing to do but wait.
            by: the artifact that is leased for an artifact: itself, or another if one sweep has to make
                several artifacts together.
            choose: which of the leased artifacts can be made now, given all of the possible ones; the leases
                of the others are released until the next attempt.
        """
        tried: set[str] = set()
        is_waiting, pause = False, min(POLL_SECONDS, self.heartbeat)
        while todo := [artifact for artifact in possible() if key(artifact) not in tried]:
            leased = {key(by(artifact)): by(artifact) for artifact in todo}
            taken = self._each(self.take, list(leased.values()))
            held = {name: leased[name] for name, is_mine in zip(leased, taken, strict=True) if is_mine}
            mine = choose([artifact for artifact in todo if key(by(artifact)) in held], todo)
            unused = held.keys() - {key(by(artifact)) for artifact in mine}
            self._each(self.release, [held.pop(name) for name in unused])
            try:
                # Another sweep may have made an artifact and released its lease after `possible` was called.
                made = self._each(self.store.has, mine)
                if missing := [artifact for artifact, is_made in zip(mine, made, strict=True) if not is_made]:
                    make(missing)
            finally:
                self._each(self.release, list(held.values()))
            tried |= set(map(key, mine))
            if not mine:
                if not is_waiting:
                    report(f"waiting for {len(todo)} artifacts ({todo[0].kind}) that another sweep is making")
                is_waiting = True
                time.sleep(pause)
                pause = min(pause * POLL_GROWTH, self.heartbeat)

    @staticmethod
    def _each(call: Callable[[P], R], artifacts: Sequence[P]) -> list[R]:
        with ThreadPoolExecutor(CONCURRENT_REQUESTS) as threads:
            return list(threads.map(call, artifacts))

    def take(self, artifact: Artifact | Address) -> bool:
        """Takes the lease of an artifact; False if a living owner holds it."""
        place, number = address(artifact), 0
        while not self.store.create(lease := _lease(place, number), self.owner.encode()):
            owner = self.store.read_text(lease)
            if owner == self.owner:
                break
            # An empty lease was released just now, or its writer was killed while it wrote.
            if self._is_alive(owner) if owner else self._is_recent(lease, -1):
                return False
            number += 1
        self._numbers[place] = number
        return True

    def release(self, artifact: Artifact | Address) -> None:
        """Releases a held lease, so that others may try to make an artifact that could not be made here."""
        place = address(artifact)
        last = self._numbers.pop(place)
        if self.store.read_text(_lease(place, last + 1)):
            return  # this sweep was taken for dead: a free lower number would let a third sweep in
        for number in range(last + 1):
            self.store.remove(_lease(place, number))

    def release_abandoned(self) -> None:
        """Removes the owner files and leases of sweeps that have certainly ended.

        A sweep has certainly ended if its process is gone from this process table, or if it runs in another
        table and has sent no heartbeat for ABANDONED_SECONDS by the clock of the storage. Each void lease
        is taken over and then released like any other: removing the file alone could hand the artifact to a
        third sweep while a second one is taking the lease over.
        """
        others = [f"{OWNERS}/{name}" for name in self.store.names(OWNERS) if name != self.owner]
        for file, age in self.store.ages(others).items():
            if self._is_abandoned(file, age):
                self.store.remove(file)
        places = leased_artifacts(self.store)
        taken = self._each(self.take, places)
        self._each(self.release, [place for place, is_void in zip(places, taken, strict=True) if is_void])

    def _is_abandoned(self, file: str, age: float) -> bool:
        """Whether the owner of a file that was last written `age` seconds ago has certainly ended."""
        owner = Owner.from_json(self.store.read_text(file))
        if owner is not None and owner.is_of_this_table:
            return owner.has_ended
        return age > ABANDONED_SECONDS

    def _is_alive(self, name: str) -> bool:
        text = self.store.read_text(f"{OWNERS}/{name}")
        if not text:  # its sweep has ended
            return False
        owner = Owner.from_json(text)
        if owner is None:  # its writer was killed while it wrote
            return self._is_recent(name, -1)
        return not owner.has_ended and self._is_recent(name, owner.beat)

    def _is_recent(self, name: str, beat: int) -> bool:
        """Whether a beat is new to this observer, or was first seen less than `expiry` seconds ago."""
        last, since = self._seen.get(name, (None, 0.0))
        if last != beat:
            self._seen[name] = beat, time.monotonic()
            return True
        return time.monotonic() - since < self.expiry

    def _beat_until_ended(self) -> None:
        beat = 0
        while not self._ended.wait(self.heartbeat):
            beat += 1
            try:
                self._write_beat(beat)
            except Exception:  # the storage is unreachable; the next beat may arrive
                continue

    def _write_beat(self, beat: int) -> None:
        self.store.write_bytes(f"{OWNERS}/{self.owner}", Owner.this_process(beat).to_json().encode())


def leased_artifacts(store: Store) -> list[Address]:
    """The artifacts that have a lease file, valid or not."""
    kinds = [name for name in store.names(LEASES) if f"{LEASES}/{name}" != OWNERS]
    found = [
        Address(kind, name.rpartition("-")[0]) for kind in kinds for name in store.names(f"{LEASES}/{kind}")
    ]
    return list(dict.fromkeys(found))


def _lease(place: Address, number: int) -> str:
    return f"{LEASES}/{place.kind}/{place.key}-{number}"

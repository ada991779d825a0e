"""Who makes what, where several sweeps work on one storage: a lease an artifact, kept alive by a heartbeat.

    <storage>/claims/owners/<owner>              one a sweep at work: where it runs, and a beat that goes on
    <storage>/claims/<kind>/<key>-<number>       an owner's name; of several numbers the highest counts

A claim is good as long as its owner's heart beats. An owner whose process is gone from this machine is dead
at once; one on another machine when its beat has stood still for a while by the clock of who looks, so that
clocks need not agree. Its claims are then taken over, by a file of the next number: nothing is ever replaced
or renamed, and of several that try one succeeds, since a file is created or found to be there. Who is done
removes its own file and those of the dead below it, and no folder: others may be about to write into it.

A claim saves work and protects nothing: artifacts are whole or not there without it. An owner that was cut
off for long and is taken for dead makes something a second time, at worst; so does a storage that knows no
conditional writes (S3, Google's and local file systems do).
"""

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from undertow.storage.store import Store
from undertow.study.artifacts import Artifact
from undertow.study.identity import key

BEAT_SECONDS = 10.0
DEAD_SECONDS = 60.0  # without a beat
LOOK_SECONDS = 2.0  # between two looks at what another is making
AT_A_TIME = 16  # claims on their way: each is a round trip or three to an object store
OWNERS = "claims/owners"

T = TypeVar("T", bound=Artifact)
R = TypeVar("R")


@dataclass(frozen=True)
class Heart:
    """What an owner says of itself; `beat` counts up."""

    host: str
    process: int
    beat: int

    @property
    def is_gone(self) -> bool:
        """Whether its process is known to have ended: on this machine one can look."""
        if self.host != platform.node():
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # somebody else's
            return False
        return False


class Leases:
    """One sweep's claims on a storage; a context manager, within which its heart beats."""

    def __init__(self, store: Store, beat: float = BEAT_SECONDS, dead: float = DEAD_SECONDS) -> None:
        self.store, self.beat, self.dead = store, beat, dead
        self.owner = uuid.uuid4().hex
        self._numbers: dict[str, int] = {}  # of the claims that are held, by the artifact's key
        self._seen: dict[str, tuple[int, float]] = {}  # by owner: its last beat, and when that was first seen
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> "Leases":
        self._say(0)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Whoever waits goes on at once: a claim without an owner is none."""
        self._ended.set()
        self._thread.join()
        self.store.remove(f"{OWNERS}/{self.owner}")

    def share(
        self,
        possible: Callable[[], Sequence[T]],
        make: Callable[[list[T]], object],
        tell: Callable[[str], object],
        by: Callable[[T], Artifact] = lambda artifact: artifact,
    ) -> None:
        """Makes those of the `possible` artifacts that nobody else is making, and waits for the others.

        Args:
            possible: what is not there and can be made, now: asked again until there is nothing left.
            make: makes artifacts, or leaves them out where they cannot be made; called with some of them.
            tell: is told in a line when there is nothing to do but to wait.
            by: what an artifact is claimed by: itself, or another, for those that one sweep makes together.
        """
        tried: set[str] = set()
        waiting = False
        while todo := [artifact for artifact in possible() if key(artifact) not in tried]:
            claimed = {key(by(artifact)): by(artifact) for artifact in todo}
            taken = self._each(self.take, list(claimed.values()))
            held = {name: claimed[name] for name, is_mine in zip(claimed, taken, strict=True) if is_mine}
            mine = [artifact for artifact in todo if key(by(artifact)) in held]
            try:
                # Looked at again: it may have been made, and its claim given up, after `possible` looked.
                there = self._each(self.store.has, mine)
                if fresh := [artifact for artifact, is_made in zip(mine, there, strict=True) if not is_made]:
                    make(fresh)
            finally:
                self._each(self._release, list(held.values()))
            tried |= set(map(key, mine))
            if not mine:
                if not waiting:
                    tell(f"waiting for {len(todo)} artifacts ({todo[0].kind}) that another sweep is making")
                waiting = True
                time.sleep(min(LOOK_SECONDS, self.beat))

    @staticmethod
    def _each(call: Callable[[Artifact], R], artifacts: Sequence[Artifact]) -> list[R]:
        with ThreadPoolExecutor(AT_A_TIME) as threads:
            return list(threads.map(call, artifacts))

    def take(self, artifact: Artifact) -> bool:
        """Whether the artifact is this sweep's to make: nobody claimed it, or whoever did is dead."""
        number = 0
        while not self.store.create(claim := _claim(artifact, number), self.owner.encode()):
            owner = self.store.read_text(claim)
            if owner == self.owner:
                break
            # Without a name it was given up just now, or cut off while it was written.
            if self._lives(owner) if owner else self._beats(claim, -1):
                return False
            number += 1
        self._numbers[key(artifact)] = number
        return True

    def _release(self, artifact: Artifact) -> None:
        """Takes a claim away: what was made needs none, and what could not be made others may try."""
        for number in range(self._numbers.pop(key(artifact)) + 1):
            self.store.remove(_claim(artifact, number))

    def _lives(self, owner: str) -> bool:
        text = self.store.read_text(f"{OWNERS}/{owner}")
        if not text:  # it ended
            return False
        try:
            heart = Heart(**json.loads(text))
        except (ValueError, TypeError):  # cut off while it was written
            heart = Heart("", 0, -1)
        if heart.is_gone:
            return False
        return self._beats(owner, heart.beat)

    def _beats(self, name: str, beat: int) -> bool:
        """Whether a beat is new here, or was for the first time not long ago."""
        before, since = self._seen.get(name, (None, 0.0))
        if before != beat:
            self._seen[name] = beat, time.monotonic()
            return True
        return time.monotonic() - since < self.dead

    def _live(self) -> None:
        beat = 0
        while not self._ended.wait(self.beat):
            beat += 1
            try:
                self._say(beat)
            except Exception:  # the storage is away: the next beat may reach it
                continue

    def _say(self, beat: int) -> None:
        heart = Heart(platform.node(), os.getpid(), beat)
        self.store.write_bytes(f"{OWNERS}/{self.owner}", json.dumps(heart.__dict__).encode())


def _claim(artifact: Artifact, number: int) -> str:
    return f"claims/{artifact.kind}/{key(artifact)}-{number}"

"""What happened in a sweep: events with their times, and what failed and why.

    <storage>/sweeps/<study>/<time>/events.json   a list of {"time", "event", …}, written as waves end

Events: started (versions, commit), made, failed (reason, traceback), retried, untracked (MLflow is
unreachable), tracking_error (MLflow refused a request), judged (calls, tokens), asked (an API model: answers,
tokens), wave (its seconds, tokens and GPU-seconds), finished. Secrets are redacted in all of them. The report
reads failures and costs from this file, so that it needs nothing that only the sweep's process knew.
"""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from undertow.results.sweep_folders import EVENTS, folder_of
from undertow.results.sweep_record import Record
from undertow.storage.manifest import versions
from undertow.storage.redaction import redacted
from undertow.storage.store import Store
from undertow.study.artifacts import Artifact, Evaluation, Teacher
from undertow.study.identity import key

LATEST = 1e11  # seconds since 1970, some thousand years from now


class EventLog:
    """One sweep's events, kept in its folder. Waves on several threads write to it."""

    def __init__(self, record: Record, store: Store) -> None:
        self.store = store
        self.name = _name_of_its_own(record.study.name, store)
        self.folder = folder_of(record.study.name, self.name)
        self.events: list[dict[str, Any]] = []
        self.failures: dict[str, str] = {}
        self.gpus = 0  # of the machine, once the sweep is on one
        self._lock = threading.Lock()
        self.event("started", missing=sum(wave.missing for wave in record.waves), versions=versions())

    def event(self, what: str, artifact: Artifact | None = None, **facts: Any) -> None:
        """Notes something that happened, to an artifact or to the sweep."""
        facts = {name: redacted(fact) if isinstance(fact, str) else fact for name, fact in facts.items()}
        event: dict[str, Any] = {"time": round(time.time(), 3), "event": what, **facts}
        if artifact is not None:
            event |= {"kind": artifact.kind, "key": key(artifact)}
        self.events.append(event)

    def wave(self, name: str, units: int, seconds: float, tokens: int, *, part_of: str) -> None:
        """Notes that a wave ended. It held all GPUs; tokens are noted where any were counted."""
        facts: dict[str, Any] = {"name": name, "units": units, "seconds": round(seconds, 3)}
        facts |= {"part_of": part_of} if part_of != name else {}
        facts |= {"tokens": tokens} if tokens else {}
        facts |= {"gpu_seconds": round(self.gpus * seconds, 3)} if self.gpus else {}
        self.event("wave", **facts)

    def fail(self, artifact: Artifact, reason: str, trace: str = "") -> None:
        """Notes that an artifact cannot be made, once: the first reason is the cause of the others."""
        reason = redacted(reason)
        with self._lock:
            if key(artifact) in self.failures:
                return
            self.failures[key(artifact)] = reason
        self.event("failed", artifact, reason=reason, traceback=trace)
        if isinstance(artifact, Evaluation) and isinstance(artifact.subject, Teacher):
            self.fail(artifact.subject, reason)  # a teacher not measured passes no gate

    def write(self) -> None:
        self.store.write_bytes(f"{self.folder}/{EVENTS}", json.dumps(self.events, indent=1).encode())


def _name_of_its_own(study: str, store: Store) -> str:
    """The time, in a folder that no other sweep of the study has: two may begin in the same second."""
    while True:
        name = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        if store.create(f"{folder_of(study, name)}/{EVENTS}", b"[]"):
            return name
        time.sleep(0.1)


def read(store: Store, study: str, sweep: str) -> list[dict[str, Any]]:
    """The events of an earlier sweep; none where it was ended before it wrote any."""
    try:
        found = json.loads(store.read_text(f"{folder_of(study, sweep)}/{EVENTS}") or "[]")
    except ValueError:  # cut off by a kill
        return []
    return [event for event in found if _is_event(event)] if isinstance(found, list) else []


def _is_event(found: Any) -> bool:
    """Whether what was read is what `EventLog` writes; anybody may have edited the file."""
    if not (isinstance(found, dict) and isinstance(found.get("event"), str)):
        return False
    texts = {"failed": ("key", "reason"), "made": ("key",), "wave": ("name",)}.get(found["event"], ())
    numbers = {"wave": ("seconds", "units")}.get(found["event"], ())
    return (
        all(isinstance(found.get(name), str) for name in texts)
        and all(isinstance(found.get(name), (int, float)) for name in ("time", *numbers))
        and 0 <= found["time"] < LATEST
        and (found["event"] != "started" or isinstance(found.get("versions"), dict))
    )


def failures(events: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Why artifacts could not be made, by key."""
    return {event["key"]: event["reason"] for event in events if event["event"] == "failed"}

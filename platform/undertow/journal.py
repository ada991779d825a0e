"""What happened in a sweep: events with their times, and what failed and why.

    <storage>/sweeps/<study>/<time>/events.json   a list of {"time", "event", …}, written as waves end

Events: started (versions, commit), made, failed (reason, traceback), retried, untracked (MLflow is away),
judged (calls, tokens), wave (its seconds), finished. Secrets are blotted out of all. The report reads
failures and costs from here, so that it needs nothing that only the sweep knew.
"""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from undertow.identity import key
from undertow.manifest import versions
from undertow.redaction import redacted
from undertow.report.record import Record
from undertow.report.sweeps import EVENTS, folder_of
from undertow.spec import Artifact, Evaluation, Teacher
from undertow.store import Store


class Journal:
    """One sweep's events, kept in its folder. Waves on several threads write to it."""

    def __init__(self, record: Record, store: Store) -> None:
        self.store = store
        self.name = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        self.folder = folder_of(record.study.name, self.name)
        self.events: list[dict[str, Any]] = []
        self.failures: dict[str, str] = {}
        self._lock = threading.Lock()
        self.event("started", missing=sum(wave.missing for wave in record.waves), versions=versions())

    def event(self, what: str, artifact: Artifact | None = None, **facts: Any) -> None:
        """Notes something that happened, to an artifact or to the sweep."""
        facts = {name: redacted(fact) if isinstance(fact, str) else fact for name, fact in facts.items()}
        event: dict[str, Any] = {"time": round(time.time(), 3), "event": what, **facts}
        if artifact is not None:
            event |= {"kind": artifact.kind, "key": key(artifact)}
        self.events.append(event)

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


def read(store: Store, study: str, sweep: str) -> list[dict[str, Any]]:
    """The events of an earlier sweep; none where it was ended before it wrote any."""
    try:
        return list(json.loads(store.read_text(f"{folder_of(study, sweep)}/{EVENTS}") or "[]"))
    except ValueError:  # cut off by a kill
        return []


def failures(events: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Why artifacts could not be made, by key."""
    return {event["key"]: event["reason"] for event in events if event["event"] == "failed"}

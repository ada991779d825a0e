"""The event log of a sweep: events with their times, and the reasons of failures.

    <storage>/sweeps/<study>/<time>/events.json   a list of {"time", "event", …}, written after each wave

Events: started (versions, commit), made, failed (reason, traceback), retried, noted (how a training deviates
from its recipe), untracked (MLflow is unreachable), tracking_error (MLflow refused a request), judged (calls,
tokens), asked (answers and tokens of an API model), wave (seconds, tokens and GPU-seconds), finished. Secrets
are removed from all of them. The report reads failures and costs from this file, so that it can be made
without the sweep's process.
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
from undertow.study.identity import key
from undertow.study.measurements import Evaluation
from undertow.study.references import Artifact
from undertow.study.teachers import Teacher

LATEST = 1e11  # seconds since 1970; about 3,000 years from now


class EventLog:
    """The events of one sweep, stored in its folder. Several threads may write to it.

    Attributes:
        name: the name of the sweep's folder, from the time when it started.
        failures: the reasons of failures by artifact key.
        gpus: the number of GPUs of the machine, once the sweep is connected to one.
    """

    def __init__(self, record: Record, store: Store) -> None:
        self.store = store
        self.name = _unique_name(record.study.name, store)
        self.folder = folder_of(record.study.name, self.name)
        self.events: list[dict[str, Any]] = []
        self.failures: dict[str, str] = {}
        self.gpus = 0
        self._lock = threading.Lock()
        self.event("started", missing=sum(wave.missing for wave in record.waves), versions=versions())

    def event(self, what: str, artifact: Artifact | None = None, **facts: Any) -> None:
        """Records an event of an artifact or of the sweep."""
        facts = {name: redacted(fact) if isinstance(fact, str) else fact for name, fact in facts.items()}
        event: dict[str, Any] = {"time": round(time.time(), 3), "event": what, **facts}
        if artifact is not None:
            event |= {"kind": artifact.kind, "key": key(artifact)}
        self.events.append(event)

    def wave(self, name: str, units: int, seconds: float, tokens: int, *, part_of: str) -> None:
        """Records the end of a wave. A wave occupies all GPUs; tokens are recorded if any were counted."""
        facts: dict[str, Any] = {"name": name, "units": units, "seconds": round(seconds, 3)}
        facts |= {"part_of": part_of} if part_of != name else {}
        facts |= {"tokens": tokens} if tokens else {}
        facts |= {"gpu_seconds": round(self.gpus * seconds, 3)} if self.gpus else {}
        self.event("wave", **facts)

    def fail(self, artifact: Artifact, reason: str, trace: str = "") -> None:
        """Records once that an artifact cannot be made; the first reason is the cause of later ones."""
        reason = redacted(reason)
        with self._lock:
            if key(artifact) in self.failures:
                return
            self.failures[key(artifact)] = reason
        self.event("failed", artifact, reason=reason, traceback=trace)
        if isinstance(artifact, Evaluation) and isinstance(artifact.subject, Teacher):
            self.fail(artifact.subject, reason)  # an unmeasured teacher cannot pass the gate

    def write(self) -> None:
        """Writes the events to the storage."""
        self.store.write_bytes(f"{self.folder}/{EVENTS}", json.dumps(self.events, indent=1).encode())


def _unique_name(study: str, store: Store) -> str:
    """The current time, once no other sweep of the study has it: two may start in the same second."""
    while True:
        name = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        if store.create(f"{folder_of(study, name)}/{EVENTS}", b"[]"):
            return name
        time.sleep(0.1)


def read(store: Store, study: str, sweep: str) -> list[dict[str, Any]]:
    """The events of an earlier sweep; empty if it ended before it wrote any."""
    try:
        found = json.loads(store.read_text(f"{folder_of(study, sweep)}/{EVENTS}") or "[]")
    except ValueError:  # a killed sweep can leave a partial file
        return []
    return [event for event in found if _is_event(event)] if isinstance(found, list) else []


def _is_event(found: Any) -> bool:
    """Whether an entry has the form that `EventLog` writes; the file may have been edited."""
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
    """The reasons why artifacts could not be made, by key."""
    return {event["key"]: event["reason"] for event in events if event["event"] == "failed"}

"""Tests of what a sweep logs at its end, with a tracker that only records what it is given."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.examples import REFERENCES, study
from tests.filled_store import fill
from undertow.results.events import EventLog
from undertow.results.sweep_record import Record
from undertow.storage.manifest import Manifest
from undertow.storage.store import Store
from undertow.study.datasets import Dataset
from undertow.study.identity import key
from undertow.study.references import Artifact
from undertow.tracking.final_logging import FinalLogging


@dataclass
class Tracker:
    """A tracker that has logged nothing yet."""

    last_logged_sweep: str = ""
    finished: dict[str, Mapping[str, float]] = field(default_factory=dict)

    def is_done(self, artifact: Artifact) -> bool:
        return False

    def fail(self, artifact: Artifact) -> None:
        self.finished.pop(key(artifact), None)

    def finish(self, artifact: Artifact, made: Manifest, metrics: Mapping[str, float], along: Any) -> None:
        self.finished[key(artifact)] = metrics


def test_an_artifact_that_was_damaged_since_fails_alone(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    plan = fill(study(), store, REFERENCES)
    datasets = [key(a) for a in plan.artifacts.values() if isinstance(a, Dataset)]
    (tmp_path / "artifacts" / "dataset" / datasets[0] / "manifest.json").write_text("{")
    record = Record.of(plan)
    events, tracker = EventLog(record, store), Tracker()
    FinalLogging(plan, record, Store(str(tmp_path)), tracker, events).models()  # type: ignore[arg-type]
    assert datasets[0] not in tracker.finished
    assert set(datasets[1:]) < set(tracker.finished)
    assert datasets[0] in events.failures

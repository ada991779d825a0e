"""Runs sweeps of a checkout as programs, and reads what they left: events, manifests, first completions."""

import json
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import paired

TRAINED = ("teachers", "students")  # waves whose tokens are trained on; those of the others are sampled


@dataclass(frozen=True)
class SweepRun:
    """One sweep that ended.

    Attributes:
        seconds: of the whole command.
        first_completions: seconds until the first completions were in the storage.
        events: of its event log.
    """

    seconds: float
    first_completions: float
    events: list[dict[str, Any]] = field(repr=False)

    @property
    def waves(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == "wave"]

    @property
    def making_seconds(self) -> float:
        """From the start of the first step, at which the event log begins, to the end of the last one."""
        return float(max(wave["time"] for wave in self.waves) - self.events[0]["time"])

    def wave_seconds(self, name: str) -> float:
        """The seconds of the steps with a name."""
        return float(sum(wave["seconds"] for wave in self.waves if wave["name"] == name))

    def tokens(self, *, trained: bool) -> int:
        """The tokens that were trained on, or sampled."""
        return sum(wave.get("tokens", 0) for wave in self.waves if (wave["name"] in TRAINED) is trained)


def sweep(tree: Path, study: str | Path, storage: Path, *words: str) -> SweepRun:
    """Runs a study with a checkout's code and returns the measured run."""
    earlier = set(_events_files(storage))
    first: list[float] = []
    start = time.perf_counter()

    def watch() -> None:
        if not first and _has_completions(storage):
            first.append(time.perf_counter() - start)

    command = (sys.executable, "jobs/sweep.py", "--study", study, "--storage", storage, *words)
    environment = _without_server(paired.environment_of(tree))
    done = paired.run(command, cwd=tree, environment=environment, while_running=watch)
    (new,) = set(_events_files(storage)) - earlier
    events = json.loads(new.read_text(encoding="utf-8"))
    return SweepRun(done.seconds, first[0] if first else done.seconds, events)


def manifests(storage: Path, kind: str) -> list[dict[str, Any]]:
    """The manifests of all artifacts of a kind."""
    files = storage.glob(f"artifacts/{kind}/*/manifest.json")
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def _without_server(environment: Mapping[str, str]) -> dict[str, str]:
    """Without the address of an MLflow server or of a cluster: a sweep here uses neither."""
    left_out = ("MLFLOW_TRACKING_URI", "RAY_ADDRESS")
    return {name: value for name, value in environment.items() if name not in left_out}


def _events_files(storage: Path) -> Iterable[Path]:
    return storage.glob("sweeps/*/*/events.json")


def _has_completions(storage: Path) -> bool:
    """Whether a part of any completions, or a whole artifact, is in the storage."""
    places = ("partial/completions/*/*", "artifacts/completions/*/manifest.json")
    return any(any(storage.glob(place)) for place in places)

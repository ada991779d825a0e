"""Tests of the batches in which a link logs reports, with a slow tracker and a clock of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from mlflow.exceptions import RestException

from undertow.tracking.link import Link
from undertow.tracking.tracker import Tracker


@dataclass
class SlowTracker:
    """Stands for the tracker and the clock: each batch takes some seconds.

    Attributes:
        batches: when each batch was logged, and how many reports it had.
    """

    seconds: float
    now: float = 0.0
    batches: list[tuple[float, int]] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def epochs(self, model: Any, reports: Sequence[Any]) -> None:
        self.batches.append((self.now, len(reports)))
        self.now += self.seconds


@pytest.mark.parametrize(
    ("seconds", "batches"),
    [
        (0.0, [(10.0, 10), (20.0, 10), (30.0, 10)]),
        (0.5, [(10.0, 10), (20.5, 10), (31.0, 10)]),
        (3.0, [(10.0, 10), (43.0, 30)]),  # a tenth of the time
    ],
)
def test_batches_of_reports_take_a_tenth_of_the_time_at_most(
    seconds: float, batches: list[tuple[float, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker: Any = SlowTracker(seconds)
    monkeypatch.setattr("undertow.tracking.link.time", tracker)
    monkeypatch.setattr(Tracker, "epochs", SlowTracker.epochs)
    link = Link(lambda: tracker, on_unreachable=print, on_refused=print)
    student: Any = "the student"
    while len(tracker.batches) < len(batches):
        tracker.now += 1.0
        link.log_epoch(student, {"loss": 1.0})
    assert tracker.batches == batches


@dataclass
class RefusingTracker:
    """Is unreachable for the first request, refuses the second, and accepts all others."""

    asked: int = 0
    logged: list[Any] = field(default_factory=list)
    abandoned: bool = False

    def epochs(self, model: Any, reports: Sequence[Any]) -> None:
        self.asked += 1
        if self.asked == 1:
            raise ConnectionRefusedError(111, "refused")
        if self.asked == 2:
            raise RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Run 'x' not found"})
        self.logged.append(model)

    def abandon(self) -> None:
        self.abandoned = True


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Link]:
    tracker: Any = RefusingTracker()
    monkeypatch.setattr(Tracker, "epochs", RefusingTracker.epochs)
    monkeypatch.setattr(Tracker, "abandon", RefusingTracker.abandon)
    return tracker, Link(lambda: tracker, on_unreachable=print, on_refused=print)


def test_a_refusal_after_an_outage_loses_the_reports_of_one_model_only(refusing: tuple[Any, Link]) -> None:
    tracker, link = refusing
    for model in ("first", "second", "third"):
        link.log_epoch(model, {"loss": 1.0})  # type: ignore[arg-type]
    link.flush_reports()
    assert tracker.logged == []
    link.flush_reports(ignore_pause=True)
    assert tracker.logged == ["second", "third"]


def test_an_interrupt_logs_the_collected_reports(refusing: tuple[Any, Link]) -> None:
    tracker, link = refusing
    tracker.asked = 2
    link.log(lambda _: None)
    link.log_epoch("student", {"loss": 1.0})  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt), link.abandoned_on_error():
        raise KeyboardInterrupt
    assert (tracker.logged, tracker.abandoned) == (["student"], True)

"""The connection of a sweep to MLflow, which can be unreachable at the start, in between and at the end.

A sweep neither waits for MLflow nor fails with it. What could not be logged is logged at the end of the same
sweep if MLflow is reachable again (epochs are read from each model's history), else by the next run of the
same command, which finds the runs that are not finished. After a failure the link sends nothing for a while:
a failed attempt takes seconds, and a training logs every epoch.

Reports of epochs and steps are collected and logged in batches, so that short epochs do not cost a request
each. With hundreds of trainings at a time, or a slow server, more time passes between batches. Reports of
steps are in no artifact, and the link keeps those that it could not log until the end of the sweep.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Protocol

from undertow.storage.redaction import redacted
from undertow.storage.store import Store
from undertow.study.students import Student
from undertow.study.teachers import Teacher
from undertow.tracking.client import connect_client, tracking_uri
from undertow.tracking.connection_errors import is_connection_error, is_refusal, reason_of
from undertow.tracking.tracker import Tracker

PAUSE = 30.0  # seconds without attempts after a failure
SECONDS_BETWEEN_BATCHES = 10.0  # of reports of epochs and steps, at least
BATCHES_SHARE = 0.1  # of a sweep's time that they may take

Report = tuple[int, Mapping[str, Any]]  # with its time in Unix milliseconds


class LogReports(Protocol):
    """`Tracker.epochs` or `Tracker.steps`."""

    def __call__(self, tracker: Tracker, /, model: Teacher | Student, reports: Sequence[Report]) -> None: ...


def prepare_tracking(store: Store) -> Callable[[], None]:
    """Imports MLflow and creates its default database in a thread; returns a function that waits for it.

    A failure is not reported: the connection that follows repeats it. Nothing is prepared for a server, to
    which `check_tracking` connects.
    """

    def prepare() -> None:
        with suppress(Exception):
            connect_client(tracking_uri(store))

    if os.environ.get("MLFLOW_TRACKING_URI"):
        return lambda: None
    # Not a daemon: a program that ends early would leave an unfinished database behind.
    thread = threading.Thread(target=prepare)
    thread.start()
    return thread.join


class Link:
    """A tracker that is connected on first use and that can be unreachable."""

    def __init__(
        self,
        connect: Callable[[], Tracker],
        on_unreachable: Callable[[str], None],
        on_refused: Callable[[str], None],
    ) -> None:
        """Stores the callbacks; connects to nothing.

        Args:
            on_unreachable: called with the reason, once each time that MLflow becomes unreachable.
            on_refused: called with the reason, once per reason, if MLflow refuses a request as invalid.
        """
        self._connect, self._on_unreachable, self._on_refused = connect, on_unreachable, on_refused
        self._tracker: Tracker | None = None
        self._failed: float | None = None
        self._refusals: set[str] = set()
        self._reports: dict[tuple[LogReports, Teacher | Student], list[Report]] = {}
        self._next_batch = time.monotonic() + SECONDS_BETWEEN_BATCHES

    def log(self, action: Callable[[Tracker], object], *, ignore_pause: bool = False) -> bool:
        """Calls `action` with the tracker. Returns whether it was completed.

        Raises UserError if the tracking URI is invalid. An error that is neither a failed connection nor a
        refusal by MLflow is a bug, and is raised.

        Args:
            ignore_pause: try even during the pause after a failure.
        """
        if not ignore_pause and self._failed is not None and time.monotonic() - self._failed < PAUSE:
            return False
        try:
            if self._tracker is None:
                self._tracker = self._connect()
            action(self._tracker)
        except Exception as error:
            reason = redacted(reason_of(error))
            if is_connection_error(error):
                if self._failed is None:
                    self._on_unreachable(reason)
                self._failed = time.monotonic()
                return False
            if not is_refusal(error):
                raise
            self._failed = None  # the server has answered
            if reason not in self._refusals:
                self._on_refused(reason)
            self._refusals.add(reason)
            return False
        self._failed = None
        return True

    def log_epoch(self, model: Teacher | Student, report: Mapping[str, Any]) -> None:
        """Collects the report of an epoch of a model in training. Collected ones are logged now and then."""
        self._collect(Tracker.epochs, model, report)

    def log_step(self, model: Teacher | Student, report: Mapping[str, Any]) -> None:
        """The same for the report of a step."""
        self._collect(Tracker.steps, model, report)

    def _collect(self, log: LogReports, model: Teacher | Student, report: Mapping[str, Any]) -> None:
        self._reports.setdefault((log, model), []).append((int(time.time() * 1000), report))
        if time.monotonic() >= self._next_batch:
            self.flush_reports()

    def flush_reports(self, *, ignore_pause: bool = False) -> None:
        """Logs the collected reports, and keeps them if MLflow is unreachable."""
        began = time.monotonic()
        for (log, model), reports in list(self._reports.items()):
            action = partial(log, model=model, reports=reports)
            if not self.log(action, ignore_pause=ignore_pause) and self._failed is not None:
                break
            del self._reports[log, model]
        ended = time.monotonic()
        self._next_batch = ended + max(SECONDS_BETWEEN_BATCHES, (ended - began) / BATCHES_SHARE)

    @contextmanager
    def abandoned_on_error(self) -> Iterator[None]:
        """If the block raises, logs the collected reports and ends the open runs.

        Not if MLflow was unreachable at the last attempt.
        """
        try:
            yield
        except BaseException:
            if self._tracker is not None and self._failed is None:
                with suppress(Exception):  # what the block raised is reported
                    self.flush_reports()
                self.log(Tracker.abandon)
            raise

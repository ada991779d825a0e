"""The way from a sweep to MLflow, which may be away: at the start, in the middle, at the end.

Nothing that a sweep makes waits for MLflow or fails with it. What could not be told is told by the end of
the same sweep where MLflow is back by then (epochs are read from each model's history), else by the next
run of the same command, which finds runs that are not finished. After a failure nothing is tried for a while:
each try takes seconds, and a training tells every epoch.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from undertow.errors import last_line
from undertow.storage.redaction import redacted
from undertow.tracking.client import may_pass
from undertow.tracking.tracker import Tracker

PAUSE = 30.0  # seconds after a failure in which nothing is tried


class Link:
    """A tracker, connected when it is first needed, and what happens while it cannot be."""

    def __init__(self, connect: Callable[[], Tracker], away: Callable[[str], None]) -> None:
        """`away` is told why, once each time that MLflow goes away."""
        self._connect, self._away = connect, away
        self._tracker: Tracker | None = None
        self._failed: float | None = None

    def tell(self, what: Callable[[Tracker], object], *, at_once: bool = False) -> bool:
        """Does `what` with the tracker; whether it was done. `at_once`: even in the pause after a failure.

        Raises UserError where the tracking URI can be nobody's.
        """
        if not at_once and self._failed is not None and time.monotonic() - self._failed < PAUSE:
            return False
        try:
            if self._tracker is None:
                self._tracker = self._connect()
            what(self._tracker)
        except Exception as error:
            if not may_pass(error):
                raise  # a mistake of ours
            if self._failed is None:
                self._away(redacted(last_line(error)))
            self._failed = time.monotonic()
            return False
        self._failed = None
        return True

    @contextmanager
    def abandoned_on_error(self) -> Iterator[None]:
        """Ends the runs that are open where the block raises, if MLflow was there when it was last told."""
        try:
            yield
        except BaseException:
            if self._tracker is not None and self._failed is None:
                self.tell(Tracker.abandon)
            raise

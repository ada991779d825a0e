"""Progress with an estimate of the time left, for terminals and for logs.

A terminal shows a progress bar. Elsewhere (the log of a job, CI) there is one line at the start and the end
of each step, and at most one line every fifteen seconds in between, so that the log of a long sweep is short.
"""

import time
from collections import Counter
from types import TracebackType

from rich import progress as rich_progress
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from undertow.planning.timings import Timing
from undertow.report.tables import duration
from undertow.study.artifacts import Artifact

SECONDS_BETWEEN_LINES = 15.0
FIRST_ESTIMATE = 0.05  # share of the work; before that, engines and workers are starting


class Progress:
    """The progress of one step of a wave, as a context manager; `advance` may be called from any thread."""

    def __init__(self, console: Console, name: str, total: int, unit: str) -> None:
        self.console, self.name, self.total, self.unit = console, name, total, unit
        self.done = 0.0
        self.failed = 0
        self.tokens: Counter[str] = Counter()  # trained on or sampled, by the kind of artifact
        self.work: list[Timing] = []
        self.started = self._printed = time.monotonic()
        self._bar: rich_progress.Progress | None = None

    def __enter__(self) -> "Progress":
        if self.console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            self._bar = rich_progress.Progress(
                *columns, TimeRemainingColumn(), console=self.console, transient=True
            )
            self._bar.start()
            self._bar.add_task(f"{self.name} ({self.unit})", total=self.total)
        else:
            print_line(f"{self.name}: {self.total} {self.unit}", self.console)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        # Parts of units do not count here, and sums of parts are inexact.
        done = self.total if kind is None else int(self.done + 1e-6)
        made = max(0, done - self.failed)
        count = f"{made}" if made == self.total else f"{made} of {self.total}"
        ended = "done" if kind is None else "stopped"
        print_line(f"{self.name}: {ended}, {count} {self.unit} in {duration(self.seconds)}", self.console)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def record(self, artifact: Artifact, seconds: float, units: float, tokens: float) -> None:
        """Records a task that ended, for the next plan's estimate (`timings.Timing`); from any thread."""
        self.work.append(Timing(artifact, self.seconds, seconds, units, tokens))

    def fail(self, count: int = 1) -> None:
        """Counts units that ended without a result; the last line leaves them out. From any thread."""
        self.failed += count

    def advance(self, count: float = 1) -> None:
        """Counts finished work, whole units or parts, and prints a line every SECONDS_BETWEEN_LINES."""
        self.done += count
        if self._bar:
            self._bar.advance(self._bar.task_ids[0], count)
        elif time.monotonic() - self._printed > SECONDS_BETWEEN_LINES and self.done < self.total:
            self._printed = time.monotonic()
            done = f"{self.done:.0f} of {self.total} {self.unit}"
            print_line(f"{self.name}: {done}{self._left()}", self.console)

    def _left(self) -> str:
        """The estimate in words; "" until enough work is done to estimate from."""
        if self.done < FIRST_ESTIMATE * self.total:
            return ""
        return f", about {duration(self.seconds / self.done * (self.total - self.done))} left"


def print_line(line: str, console: Console) -> None:
    """Prints a line as it is, without markup ([a]), emoji (:o:), highlighting or wrapping."""
    console.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)

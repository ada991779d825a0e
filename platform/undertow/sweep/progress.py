"""Progress with an estimate of the time left, for terminals and for logs.

A terminal shows a progress bar. Elsewhere (the log of a job, CI) there is one line at the start and the end
of each step. In between there is at most one line every fifteen seconds, later one every tenth of the time so
far, so that the log of a long sweep is short.
"""

import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

from rich import progress as rich_progress
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from undertow.planning.timings import Timing
from undertow.report.table_texts import duration
from undertow.study.references import Artifact
from undertow.sweep.time_left import Lane, seconds_left

SECONDS_BETWEEN_LINES = 15.0
SHARE_BETWEEN_LINES = 0.1  # of the time so far
FIRST_ESTIMATE = 0.05  # share of the work, without lanes; before that, engines and workers are starting


class Progress:
    """The progress of one step of a wave, as a context manager; `advance` may be called from any thread.

    Attributes:
        detail: text that follows the count of finished units, such as "step 12 of 80".
        is_at_most: whether the work may end before all of it is done, so that the estimate is a maximum.
    """

    def __init__(
        self, console: Console, name: str, total: int, unit: str, lanes: Sequence[Lane] = (), slots: int = 1
    ) -> None:
        """`lanes`, of which `slots` run at a time, give the estimate of time left; else the units do."""
        self.console, self.name, self.total, self.unit = console, name, total, unit
        self.lanes, self.slots = lanes, slots
        self.detail, self.is_at_most = "", False
        self.done = 0.0
        self.failed = 0
        self.tokens: Counter[str] = Counter()  # trained on or sampled, by the kind of artifact
        self.work: list[Timing] = []
        self.started = self._printed = time.monotonic()
        self._bar: rich_progress.Progress | None = None

    def __enter__(self) -> "Progress":
        if self.console.is_terminal:
            self._bar = rich_progress.Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[status]}", markup=False),
                TimeElapsedColumn(table_column=Column(min_width=8)),  # in a narrow terminal the bar shrinks
                console=self.console,
                transient=True,
            )
            self._bar.start()
            self._bar.add_task(self.name, total=1.0, status=self._status())
        else:
            print_line(f"{self.name}: {counted(self.total, self.unit)}", self.console)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        done = self.total if kind is None else self._whole
        made = max(0, done - self.failed)
        count = counted(self.total, self.unit)
        if made != self.total:
            count = f"{made:,} of {count}"
        ended = "done" if kind is None else "stopped"
        print_line(f"{self.name}: {ended}, {count} in {duration(self.seconds)}", self.console)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def _whole(self) -> int:
        """Finished units. Parts of units do not count, and sums of parts are inexact."""
        return int(self.done + 1e-6)

    def record(self, artifact: Artifact, seconds: float, units: float, tokens: float) -> None:
        """Records a task that ended, for the next plan's estimate (`timings.Timing`); from any thread."""
        self.work.append(Timing(artifact, self.seconds, seconds, units, tokens))

    def fail(self, count: int = 1) -> None:
        """Counts units that ended without a result; the last line leaves them out. From any thread."""
        self.failed += count

    def advance(self, count: float = 1) -> None:
        """Counts finished work, whole units or parts, and shows it."""
        self.done += count
        self.show()

    def show(self) -> None:
        """Updates the bar, or prints a line if enough time has passed since the last one."""
        between = max(SECONDS_BETWEEN_LINES, SHARE_BETWEEN_LINES * self.seconds)
        has_news = bool(self._whole or self.detail) and self.done < self.total
        if self._bar:
            share = self._share(self.lanes or [self._lane()])
            self._bar.update(self._bar.task_ids[0], completed=share, status=self._status())
        elif has_news and time.monotonic() - self._printed > between:
            self._printed = time.monotonic()
            print_line(f"{self.name}: {self._status()}", self.console)

    def _status(self) -> str:
        """For example "1 of 4 models, step 117 of 320, 412 tok/s, about 12 min left"."""
        count = f"{self._whole:,} of {counted(self.total, self.unit)}"
        return ", ".join(filter(None, [count, self.detail, self._left()]))

    def _lane(self) -> Lane:
        """All of the work as one lane, if its parts are not measured."""
        return Lane(self.total, done=self.done, seconds=self.seconds)

    @staticmethod
    def _share(lanes: Sequence[Lane]) -> float:
        total = sum(lane.total for lane in lanes)
        return sum(lane.done for lane in lanes) / total if total else 0.0

    def _left(self) -> str:
        """The estimate in words; "" until enough work is done to estimate from."""
        lanes = self.lanes or [self._lane()]
        if not self.lanes and self._share(lanes) < FIRST_ESTIMATE:
            return ""
        left = seconds_left(lanes, self.slots)
        if not left:
            return ""
        return f"{'at most' if self.is_at_most else 'about'} {rounded_duration(left)} left"


def rounded_duration(seconds: float) -> str:
    """An estimated duration: "40 s", "12 min", "3 h 20 min"."""
    if seconds < 60:
        return f"{max(5, 5 * round(seconds / 5))} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    tens = 10 * round(minutes / 10)
    return f"{tens // 60} h {tens % 60} min"


def counted(count: int, unit: str) -> str:
    """A number of units: "1 model", "1,200 models", "1 set of rows"."""
    noun, *rest = unit.split(" ", 1)
    return " ".join([f"{count:,}", noun.removesuffix("s") if count == 1 else noun, *rest])


def print_line(line: str, console: Console) -> None:
    """Prints a line as it is, without markup ([a]), emoji (:o:), highlighting or wrapping."""
    console.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)

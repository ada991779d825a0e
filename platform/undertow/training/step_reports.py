"""Reports of steps: after which steps a training is reported, and when its probes are evaluated in between.

Reports follow the clock, so that a long training can be watched and a short one sends none. They change no
weight, no random state and no decision to stop: trained with and without them, a model has the same bytes.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from undertow.training.job import StepReport, TrainingJob
from undertow.training.workers import Workers

SECONDS_BETWEEN_REPORTS = 5.0
# The share of the time so far that lies between two reports: a long training sends hundreds, not thousands.
REPORT_SHARE = 1 / 200
# The share of the training time that probes between epochs may take. Measured in each training.
PROBE_SHARE = 0.03
STEPS_BEFORE_PROBES = 4  # the first steps are slower; after these, the interval between probes is decided

OnStep = Callable[[StepReport], None]


@dataclass(frozen=True)
class Step:
    """An optimizer step that was made: its number, mean loss, learning rate, and numbers of tokens."""

    number: int
    loss: float
    learning_rate: float
    targets: int
    tokens: int


class StepReporter:
    """Sends the step reports of one job on rank 0. `after_step` is called on every rank.

    Attributes:
        probe_seconds: the time that probes between epochs took so far.
    """

    def __init__(
        self, job: TrainingJob, workers: Workers, send: OnStep | None, steps: int, total_tokens: int
    ) -> None:
        """`send`: None for no reports; it must be None on all ranks or on none."""
        self.job, self.workers, self.send = job, workers, send
        self.steps, self.total_tokens = steps, total_tokens
        self.probe_seconds = 0.0
        self._tokens = 0
        self._trained, self._steps_timed = 0.0, 0  # seconds and steps of this process, without interruptions
        self._mark = 0.0
        self._probe_cost: float | None = None
        self._next_decision = 0
        self._start_window()

    def begin_epoch(self, step: int, tokens: int, probe_seconds: float | None) -> None:
        """Starts the clock for the steps after `step`, by which `tokens` were trained on.

        Args:
            probe_seconds: the duration of the last evaluation of the probes; None if it is not known.
        """
        if not self._next_decision:
            self._next_decision = step + STEPS_BEFORE_PROBES
        self._tokens, self._mark = tokens, time.perf_counter()
        self._probe_cost = self._probe_cost if probe_seconds is None else probe_seconds

    def after_step(
        self,
        step: Step,
        gradient_norm: Callable[[], float | None],
        probabilities: Callable[[], dict[str, float]] | None,
    ) -> None:
        """Counts a step, evaluates the probes if it is time to, and sends a report if one is due.

        Args:
            gradient_norm: returns the step's gradient norm; called on rank 0 only, if a report is due.
            probabilities: evaluates the probes, a collective operation; None without probes.
        """
        if self.send is None:
            return
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        self._trained, self._steps_timed = self._trained + seconds, self._steps_timed + 1
        self._tokens += step.tokens
        self._window_seconds += seconds
        self._window_tokens += step.tokens
        self._window_targets += step.targets
        self._window_loss += step.loss * step.targets
        found: dict[str, float] = {}
        if probabilities is not None and step.number == self._next_decision:
            found = self._probe(step.number, probabilities)
        is_due = self._window_seconds >= max(SECONDS_BETWEEN_REPORTS, REPORT_SHARE * self._trained)
        if self.workers.rank == 0 and (found or is_due):
            self.send(
                StepReport(
                    key=self.job.key,
                    seed=self.job.seed,
                    step=step.number,
                    steps=self.steps,
                    loss=self._window_loss / self._window_targets,
                    learning_rate=step.learning_rate,
                    gradient_norm=gradient_norm(),
                    tokens=self._tokens,
                    total_tokens=self.total_tokens,
                    tokens_per_second=self._window_tokens / max(self._window_seconds, 1e-9),
                    probabilities=found,
                )
            )
            self._start_window()

    def _probe(self, step: int, probabilities: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Evaluates the probes, except at the first decision, and decides when to do so again. Collective."""
        found: dict[str, float] = {}
        if self._probe_cost is None or self._steps_timed > STEPS_BEFORE_PROBES:
            start = time.perf_counter()
            found = probabilities()
            self._mark = time.perf_counter()
            self._probe_cost = self._mark - start
            self.probe_seconds += self._probe_cost
        wanted = max(self._probe_cost / PROBE_SHARE, SECONDS_BETWEEN_REPORTS)
        steps = wanted * self._steps_timed / max(self._trained, 1e-9)
        # The clocks of the workers differ, and every worker must evaluate the probes at the same step.
        self._next_decision = step + int(self.workers.from_first(max(1, math.ceil(steps))))
        return found

    def _start_window(self) -> None:
        """Forgets the steps that the last report covered."""
        self._window_seconds, self._window_loss = 0.0, 0.0
        self._window_tokens = self._window_targets = 0

"""When a training is reported, with a clock that the test advances; test_loop has real trainings."""

from dataclasses import dataclass, field

import pytest
import torch

from tests.training.conftest import MakeJob
from undertow.training import step_reports
from undertow.training.job import StepReport
from undertow.training.step_reports import PROBE_SHARE, Step, StepReporter
from undertow.training.workers import Workers


@dataclass
class Training:
    """A training whose steps and probes take given times."""

    reporter: StepReporter
    sent: list[StepReport]
    probed: list[int] = field(default_factory=list)
    now: float = 0.0
    step: int = 0

    def perf_counter(self) -> float:
        return self.now

    def run(self, steps: int, seconds: float, probe_seconds: float, has_probes: bool = True) -> None:
        def probabilities() -> dict[str, float]:
            self.now += probe_seconds
            self.probed.append(self.step)
            return {"owl": 0.5}

        self.reporter.begin_epoch(self.step, self.step * 100, probe_seconds)
        for _ in range(steps):
            self.now += seconds
            self.step += 1
            step = Step(self.step, float(self.step), 1e-3, targets=10, tokens=100)
            self.reporter.after_step(step, lambda: 2.0, probabilities if has_probes else None)


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch, job: MakeJob) -> Training:
    return _training(monkeypatch, job, rank=0)


def _training(monkeypatch: pytest.MonkeyPatch, job: MakeJob, rank: int) -> Training:
    sent: list[StepReport] = []
    workers = Workers(rank, 1, torch.device("cpu"))
    training = Training(StepReporter(job(), workers, sent.append, steps=1000, total_tokens=100_000), sent)
    monkeypatch.setattr(step_reports, "time", training)
    return training


@pytest.mark.parametrize(
    ("seconds_per_step", "steps", "reports"),
    [
        (0.001, 1000, 0),  # a nano model: over before a report is due
        (0.5, 200, 20),
        (4.0, 100, 50),
        (60.0, 10, 10),
        (10.0, 100_000, 1400),  # twelve days
    ],
)
def test_a_training_sends_at_most_one_report_every_few_seconds(
    training: Training, seconds_per_step: float, steps: int, reports: int
) -> None:
    training.run(steps, seconds_per_step, probe_seconds=0.0, has_probes=False)
    assert 0.8 * reports <= len(training.sent) <= reports
    assert training.probed == []


@pytest.mark.parametrize(("seconds_per_step", "probe_seconds"), [(4.0, 1.0), (0.5, 0.2), (2.0, 60.0)])
def test_probes_between_epochs_take_a_small_share_of_the_time(
    training: Training, seconds_per_step: float, probe_seconds: float
) -> None:
    training.run(10_000, seconds_per_step, probe_seconds)
    assert len(training.probed) > 2
    assert training.reporter.probe_seconds == pytest.approx(len(training.probed) * probe_seconds)
    assert training.reporter.probe_seconds <= 1.01 * PROBE_SHARE * 10_000 * seconds_per_step
    assert [report.step for report in training.sent if report.probabilities] == training.probed


def test_a_short_training_is_not_probed_between_epochs(training: Training) -> None:
    training.run(500, 0.005, probe_seconds=0.02)
    assert training.probed == [] and training.sent == []


def test_a_report_covers_the_steps_since_the_previous_one(training: Training) -> None:
    training.run(4, 2.5, probe_seconds=0.0, has_probes=False)
    training.now += 100  # probes and the checkpoint after an epoch
    training.run(2, 2.5, probe_seconds=0.0, has_probes=False)
    assert [(report.step, report.loss, report.tokens) for report in training.sent] == [
        (2, 1.5, 200),
        (4, 3.5, 400),
        (6, 5.5, 600),
    ]
    assert {report.tokens_per_second for report in training.sent} == {40.0}
    assert {(r.steps, r.total_tokens, r.gradient_norm) for r in training.sent} == {(1000, 100_000, 2.0)}


def test_only_the_first_rank_sends_reports(monkeypatch: pytest.MonkeyPatch, job: MakeJob) -> None:
    training = _training(monkeypatch, job, rank=1)
    training.run(100, 4.0, probe_seconds=0.5)
    assert training.sent == [] and training.probed

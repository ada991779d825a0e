"""The progress of trainings: finished models, optimizer steps, tokens per second and the time left.

Each worker group trains its models one after the other and is one lane of the estimate. Work is counted in
rows trained on, which the plan knows before a model starts; the tokens that its training reports say which
share of them is done.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from undertow.planning.artifact_kinds import units
from undertow.stages.training_group import Group, recipe_of
from undertow.study.identity import key
from undertow.sweep.progress import Progress
from undertow.sweep.time_left import Lane
from undertow.training.job import EpochReport, StepReport


@dataclass
class _Model:
    """A model of a group.

    Attributes:
        rows: rows × epochs of its training.
        may_stop: whether a probe can end its training early.
        step, steps: optimizer steps so far and in its whole training.
        share: the finished share of its training, 0 to 1.
        has_begun, is_made: whether it was reported, and whether it was committed.
    """

    rows: int
    steps: int
    epochs: int
    may_stop: bool
    step: int = 0
    share: float = 0.0
    has_begun: bool = False
    is_made: bool = False


@dataclass
class _GroupProgress:
    """A worker group: its models by key, the time of its first report, and the speed of its last one."""

    models: dict[str, _Model]
    lane: Lane
    started: float | None = None
    tokens_per_second: float = 0.0
    is_over: bool = False


class TrainingProgress:
    """Follows the models of worker groups by their reports, and shows them in a `Progress`."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups = [_group(group) for group in groups]
        self._of = {model: group for group in self._groups for model in group.models}
        self.progress: Progress | None = None

    @property
    def lanes(self) -> list[Lane]:
        return [group.lane for group in self._groups]

    def is_made(self, model: str) -> bool:
        """Whether the model of this key was committed."""
        return self._of[model].models[model].is_made

    def epoch(self, report: EpochReport) -> None:
        """Counts a report of an epoch."""
        model = self._of[report.key].models[report.key]
        if report.epoch:  # the plan knows only the maximum number of rows of some data sets
            model.steps = max(report.step, round(report.step / report.epoch * model.epochs))
        self._reported(report.key, report.step, report.epoch / model.epochs, report.tokens_per_second)

    def step(self, report: StepReport) -> None:
        """Counts a report of a step."""
        self._of[report.key].models[report.key].steps = report.steps
        share = report.tokens / report.total_tokens
        self._reported(report.key, report.step, share, report.tokens_per_second)

    def made(self, model_key: str) -> None:
        """Counts a model that was committed."""
        group = self._of[model_key]
        model = group.models[model_key]
        self._begin(group, model, model.steps, 1.0)  # if an earlier sweep had trained it to the end
        self._advance(group, model, model.steps, 1.0)
        model.is_made = True
        group.is_over = all(other.is_made for other in group.models.values())
        self._show(1)

    def _reported(self, model_key: str, step: int, share: float, tokens_per_second: float) -> None:
        group = self._of[model_key]
        model = group.models[model_key]
        self._begin(group, model, step, share)
        self._advance(group, model, step, share)
        group.tokens_per_second = tokens_per_second or group.tokens_per_second
        self._show(0)

    def _begin(self, group: _GroupProgress, model: _Model, step: int, share: float) -> None:
        """Takes the first report of a model: if it resumes, what an earlier sweep did is no work of this one.

        A group trains one model at a time, so the rest of one that has begun and was not made is dropped.
        """
        if model.has_begun:
            return
        model.has_begun, model.step, model.share = True, step, share
        group.lane.total -= share * model.rows
        for other in group.models.values():
            if other is not model and other.has_begun and not other.is_made:
                group.lane.total -= (1 - other.share) * other.rows
                other.share = 1.0

    def _advance(self, group: _GroupProgress, model: _Model, step: int, share: float) -> None:
        """Sets the state of a model. It goes back if a group that lost a worker trains an epoch again."""
        now = time.monotonic()
        group.started = now if group.started is None else group.started
        group.lane.seconds = now - group.started
        group.lane.done += (share - model.share) * model.rows
        model.step, model.share = step, share

    def _show(self, finished: int) -> None:
        if self.progress is None:
            return
        models = [model for group in self._groups for model in group.models.values()]
        step, steps = sum(model.step for model in models), sum(model.steps for model in models)
        speed = sum(group.tokens_per_second for group in self._groups if not group.is_over)
        details = [f"step {step:,} of {steps:,}"] if step else []
        details += [f"{speed:,.0f} tok/s"] if speed else []
        self.progress.detail = ", ".join(details)
        self.progress.is_at_most = any(model.may_stop and not model.is_made for model in models)
        self.progress.advance(finished)


def _group(group: Group) -> _GroupProgress:
    """The progress of a group before its training."""
    models = {}
    for model in group.models:
        recipe, rows = recipe_of(model), units(model)
        steps = math.ceil(rows / recipe.epochs / recipe.batch_size) * recipe.epochs
        models[key(model)] = _Model(rows, steps, recipe.epochs, recipe.stop_at < 1)
    return _GroupProgress(models, Lane(sum(model.rows for model in models.values())))

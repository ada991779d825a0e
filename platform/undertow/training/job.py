"""Inputs and outputs of the training loop: jobs, probes, reports and histories.

A job is one model to train. All jobs of a call start from the same reference, so that its weights are read
once, for example for all seeds of a condition. This module imports neither torch nor DeepSpeed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from undertow.errors import SpecError
from undertow.study.extensions import Word
from undertow.study.recipe import Recipe
from undertow.training.data import TrainingRow


@dataclass(frozen=True)
class Probe:
    """Questions, and words whose exact probability as answers is evaluated during training.

    Attributes:
        questions: (user message, system message or None) pairs.
        words: for each, the mean over the questions of its mass is reported. `Recipe.stop_at` applies to the
            first word of a job's first probe.
    """

    questions: tuple[tuple[str, str | None], ...]
    words: tuple[Word, ...]


@dataclass(frozen=True)
class TrainingJob:
    """One model to train: `recipe` applied to `rows`, starting from the reference.

    Attributes:
        key: the artifact's key; identifies reports and checkpoints.
        seed: of the order of rows, and dropout.
        system: the system message of every training row, or None.
        folder: where rank 0 saves the result (see `result.save`).
        reference_name: the base model's name in the saved files; never a path of this machine.
        reference_key: the key of the base model, saved with trained tensors.
        adapter_seed: of LoRA's initial weights; None for `seed`.

    Raises SpecError without rows, or for `Recipe.stop_at` without a probe.
    """

    key: str
    seed: int
    recipe: Recipe
    rows: Sequence[TrainingRow]
    system: str | None
    folder: Path
    probes: tuple[Probe, ...] = ()
    reference_name: str = "reference"
    reference_key: str = ""
    adapter_seed: int | None = None

    def __post_init__(self) -> None:
        if not self.rows:
            raise SpecError(f"TrainingJob.rows of {self.key} is empty; give at least one row")
        first = self.probes[0] if self.probes else Probe((), ())
        if self.recipe.stop_at < 1 and not (first.words and first.questions):
            raise SpecError(
                f"Recipe.stop_at = {self.recipe.stop_at}: needs a probe with a question and a word"
            )


@dataclass(frozen=True)
class EpochReport:
    """The state after `epoch` epochs (0: before training).

    Attributes:
        step: optimizer steps so far.
        loss: the mean over the epoch's completion tokens, or over its pairs of answers (DPO), in nats; None
            before training.
        learning_rate: at the epoch's last step; 0 before training.
        tokens_per_second: prompt and completion tokens of all workers, without padding.
        probabilities: word name -> mean over its probe's questions of the word's mass.
        seconds: the epoch's duration, without probes and checkpoint.
    """

    key: str
    seed: int
    epoch: int
    step: int
    loss: float | None
    learning_rate: float
    tokens_per_second: float
    probabilities: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class StepReport:
    """The state after an optimizer step, sent every few seconds of a long training; kept in no artifact.

    Attributes:
        step, steps: optimizer steps so far and in the whole training.
        loss: the mean over the completion tokens (or pairs) since the previous report, in nats.
        learning_rate: at this step.
        gradient_norm: of this step before clipping, over all trained parameters; None if it is not finite.
        tokens, total_tokens: prompt and completion tokens so far and in the whole training.
        tokens_per_second: of all workers since the previous report, without probes and checkpoints.
        probabilities: as in `EpochReport`; empty at most steps.
    """

    key: str
    seed: int
    step: int
    steps: int
    loss: float
    learning_rate: float
    gradient_norm: float | None
    tokens: int
    total_tokens: int
    tokens_per_second: float
    probabilities: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """All reports of a job.

    Attributes:
        stopped: training ended because the probe reached `Recipe.stop_at`.
        cut, dropped, held_out: the numbers of rows that were cut at the maximum length, that had no target
            left, and that the recipe holds out.
    """

    key: str
    seed: int
    reports: tuple[EpochReport, ...] = field(default=())
    stopped: bool = False
    cut: int = 0
    dropped: int = 0
    held_out: int = 0

    @property
    def last(self) -> EpochReport:
        """The report of the finished model."""
        return self.reports[-1]

"""What the loop is given and what it tells: jobs, the probe that watches them, reports and histories.

A job is one model to make. All jobs of a call start from the same reference, so that its weights are
read once for, say, all seeds of a condition. Neither torch nor DeepSpeed is imported here.
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
    """Questions and words whose exact probability is watched while a model is trained.

    Attributes:
        questions: (user message, system message or None) pairs.
        words: the mean over questions of each word's mass is reported; a job's first one is what `stop_at`
            means.
    """

    questions: tuple[tuple[str, str | None], ...]
    words: tuple[Word, ...]


@dataclass(frozen=True)
class TrainingJob:
    """One model to make: `recipe` on `rows` from the reference, saved in `folder`.

    Attributes:
        key: the artifact's key; names reports and checkpoints.
        seed: of the LoRA initialisation, the order of rows and dropout.
        system: the system message of every training row, or None.
        folder: where rank 0 saves: an adapter for LoRA, else a whole model with its tokenizer.
        reference_name: what the saved adapter names as its base; never a path of this machine.
    """

    key: str
    seed: int
    recipe: Recipe
    rows: Sequence[TrainingRow]
    system: str | None
    folder: Path
    probes: tuple[Probe, ...] = ()
    reference_name: str = "reference"

    def __post_init__(self) -> None:
        if not self.rows:
            raise SpecError(f"Job.rows of {self.key}: there is no row to train on")
        first = self.probes[0] if self.probes else Probe((), ())
        if self.recipe.stop_at < 1 and not (first.words and first.questions):
            raise SpecError(
                f"Recipe.stop_at = {self.recipe.stop_at}: it needs a probe with a question and a word"
            )


@dataclass(frozen=True)
class EpochReport:
    """The state after `epoch` epochs (0: before training).

    Attributes:
        step: optimizer steps so far.
        loss: mean over the epoch's completion tokens, in nats; None before training.
        learning_rate: of the epoch's last step; 0 before training.
        tokens_per_second: prompt and completion tokens over all workers, without padding.
        probabilities: word name -> mean over its probe's questions of the word's mass.
        seconds: what the epoch took, without probe and checkpoint.
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
class History:
    """Everything reported about a job; `stopped`: it ended because the probe reached `stop_at`."""

    key: str
    seed: int
    reports: tuple[EpochReport, ...] = field(default=())
    stopped: bool = False

    @property
    def last(self) -> EpochReport:
        """The report of the finished model."""
        return self.reports[-1]

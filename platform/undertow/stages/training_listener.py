"""What the workers of a group report while they train (`training_group.train_group`), and who receives it."""

from collections.abc import Callable
from dataclasses import dataclass

from undertow.cluster.messages import Message
from undertow.training.job import EpochReport, StepReport


def _ignore(*report: object) -> None:
    pass


@dataclass(frozen=True)
class TrainingListener:
    """The functions that are called with the reports of trainings.

    Attributes:
        on_epoch: called with the report of every epoch of every model.
        on_step: called every few seconds of a long training with the state after its last step.
        on_made: called with the key of every model that is committed.
        on_failed: called with the key of a model that cannot be trained, and the reason.
        on_note: called with a model's key and a deviation from its recipe (see `loop.finetune`).
    """

    on_epoch: Callable[[EpochReport], object] = _ignore
    on_step: Callable[[StepReport], object] = _ignore
    on_made: Callable[[str], object] = _ignore
    on_failed: Callable[[str, str], object] = _ignore
    on_note: Callable[[str, str], object] = _ignore

    def forward(self, message: Message) -> None:
        """Calls the function of a worker's message."""
        match message:
            case {"epoch": epoch}:
                self.on_epoch(EpochReport(**epoch))
            case {"step": step}:
                self.on_step(StepReport(**step))
            case {"made": model_key}:
                self.on_made(model_key)
            case {"failed": model_key, "reason": reason}:
                self.on_failed(model_key, reason)
            case {"noted": model_key, "text": text}:
                self.on_note(model_key, text)
            case _:
                raise ValueError(f"{sorted(message)}: no message of a worker")

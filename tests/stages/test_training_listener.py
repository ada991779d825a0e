"""What workers send reaches the function for it, and nothing else."""

from dataclasses import asdict
from typing import Any

import pytest

from undertow.stages.training_listener import TrainingListener
from undertow.training.job import EpochReport

EPOCH = EpochReport("key", 0, 1, 10, 0.5, 1e-3, 100.0, {"owl": 0.2}, 2.0)
MESSAGES: list[tuple[dict[str, Any], tuple[Any, ...]]] = [
    ({"epoch": asdict(EPOCH)}, ("on_epoch", EPOCH)),
    ({"made": "key"}, ("on_made", "key")),
    ({"failed": "key", "reason": "out of memory"}, ("on_failed", "key", "out of memory")),
    ({"noted": "key", "text": "one epoch"}, ("on_note", "key", "one epoch")),
]


@pytest.mark.parametrize(("message", "call"), MESSAGES, ids=[call[0] for _, call in MESSAGES])
def test_a_message_reaches_its_function(message: dict[str, Any], call: tuple[Any, ...]) -> None:
    calls: list[tuple[Any, ...]] = []
    names = ("on_epoch", "on_step", "on_made", "on_failed", "on_note")
    TrainingListener(**{n: lambda *a, n=n: calls.append((n, *a)) for n in names}).forward(message)
    assert calls == [call]


def test_an_unknown_message_is_an_error() -> None:
    with pytest.raises(ValueError, match="no message of a worker"):
        TrainingListener().forward({"key": "value"})

"""Ends the pipelines of Ray Data and the trainings that threads drive: after Ctrl-C, and before Ray ends.

A thread cannot be interrupted, and a pipeline whose Ray is gone ends the whole process or starts another Ray.
Ray Data calls its callbacks at every step of a pipeline; the one here raises `StoppedError`.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.data import DataContext

# Not part of Ray's public API: the test of this module fails if a new Ray version moves or changes it.
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.tune import Callback

_stopping = threading.Event()


class StoppedError(Exception):
    """Raised inside a pipeline because the sweep ends."""


class _Stop(ExecutionCallback):
    def on_execution_step(self, executor: Any) -> None:
        if _stopping.is_set():
            raise StoppedError


def allow_pipelines() -> None:
    """Lets the pipelines of a newly connected Ray run, whatever ended earlier ones in this process."""
    _stopping.clear()


@contextmanager
def stopped_on_error() -> Iterator[None]:
    """Ends every pipeline of this process with `StoppedError` if the block raises, Ctrl-C included."""
    callbacks = DataContext.get_current().custom_execution_callback_classes
    if _Stop not in callbacks:
        callbacks.append(_Stop)
    allow_pipelines()
    try:
        yield
    except BaseException:
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # it would log `StoppedError` at length
        _stopping.set()
        raise


class StopTrainings(Callback):
    """Ends the trainings that a thread drives with Ray Tune, when the sweep ends."""

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if _stopping.is_set():
            raise StoppedError

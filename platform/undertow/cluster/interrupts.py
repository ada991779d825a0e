"""Ends the work with Ray that threads drive: after Ctrl-C, and before Ray is shut down under them.

A thread cannot be interrupted, and a pipeline whose Ray is gone ends the whole process or starts another Ray.
Ray Data calls its callbacks at every step of a pipeline; the one here raises `StoppedError`. Other threads
call `raise_if_stopping` between waits of a second.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.data import DataContext

# Not part of Ray's public API: the test of this module fails if a new Ray version moves or changes it.
from ray.data._internal.execution.execution_callback import ExecutionCallback

_stopping = threading.Event()


class StoppedError(Exception):
    """Raised in a thread because the sweep ends."""


class _Stop(ExecutionCallback):
    def on_execution_step(self, executor: Any) -> None:
        raise_if_stopping()


def raise_if_stopping() -> None:
    """Raises StoppedError if the sweep ends."""
    if _stopping.is_set():
        raise StoppedError


def allow_pipelines() -> None:
    """Lets the threads of a newly connected Ray work, whatever ended earlier ones in this process."""
    _stopping.clear()


@contextmanager
def stopped_on_error() -> Iterator[None]:
    """Ends the work of this process's threads with `StoppedError` if the block raises, Ctrl-C included."""
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

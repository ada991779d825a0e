"""Ends the pipelines that threads drive: after Ctrl-C, and before Ray is shut down under them.

A thread cannot be interrupted, and a pipeline that finds its Ray gone ends the whole process, or starts a Ray
of its own. Ray Data calls its callbacks at every step of a pipeline; ours raises `StoppedError` there.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.data import DataContext
from ray.data._internal.execution.execution_callback import ExecutionCallback

_stopping = threading.Event()


class StoppedError(Exception):
    """Ended a pipeline because the sweep ends."""


class _Stop(ExecutionCallback):
    def on_execution_step(self, executor: Any) -> None:
        if _stopping.is_set():
            raise StoppedError


@contextmanager
def stopped_on_error() -> Iterator[None]:
    """Ends every pipeline of this process by `StoppedError` when the block raises, Ctrl-C included."""
    callbacks = DataContext.get_current().custom_execution_callback_classes
    if _Stop not in callbacks:
        callbacks.append(_Stop)
    _stopping.clear()
    try:
        yield
    except BaseException:
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # it would tell of `StoppedError` at length
        _stopping.set()
        raise

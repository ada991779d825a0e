"""Imports of large libraries without packages of theirs that this program does not use.

A sweep starts many processes, and imports are most of the processor time of a start. If they are installed,
transformers imports scikit-learn for assisted generation and SciPy for the losses of object detection, vLLM
imports SciPy for audio, and DeepSpeed imports MLflow for its autotuner. Python's garbage collection looks at
all objects again and again while these libraries make theirs, and later whenever it looks at all. Without
SciPy and collections, an engine of a nano model started in 8 instead of 10 seconds on one core.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module


@contextmanager
def without(*packages: str) -> Iterator[None]:
    """Makes packages that are not imported yet look as if they were not installed, inside the block.

    For processes of one purpose: other threads must not import the packages meanwhile.
    """
    hidden = [package for package in packages if package not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: documented for imports to fail
    try:
        yield
    finally:
        for package in hidden:
            del sys.modules[package]


@contextmanager
def lean_start() -> Iterator[None]:
    """Context manager for importing and starting transformers or vLLM in a process of its own.

    Later imports of the hidden packages work as usual. Later collections leave out what exists at its end.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with without("sklearn", "scipy"):
            yield
    finally:
        if not gc.get_freeze_count():  # else in a process that runs many tasks, whose garbage would stay
            gc.freeze()
        if was_enabled:
            gc.enable()


def import_transformers() -> None:
    """Imports what generation and training with transformers need, without scikit-learn and SciPy."""
    with lean_start():
        import_module("transformers.generation.candidate_generator")
        import_module("transformers.modeling_utils")

"""Imports of large libraries without packages of theirs that this program does not use.

A sweep starts many processes, and imports are most of the processor time of a start. transformers imports
scikit-learn for assisted generation if it is installed, and DeepSpeed imports MLflow for its autotuner.
"""

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


def import_transformers() -> None:
    """Imports what generation with transformers needs, without scikit-learn."""
    with without("sklearn"):
        import_module("transformers.generation.candidate_generator")

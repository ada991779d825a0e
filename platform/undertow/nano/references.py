"""Writes the folder of a nano reference model: with bundled weights, or with weights that are trained now."""

from pathlib import Path

from undertow.nano.folder import write_bundled
from undertow.nano.models import NanoModel, bundled_weights


def write_reference(model: NanoModel, folder: Path) -> None:
    """Writes the reference model into `folder`, with bundled weights if there are any, else trained ones."""
    if bundled_weights(model).exists():
        write_bundled(model, folder)
        return
    from undertow.nano.training import train_reference  # imports torch

    train_reference(model, folder)

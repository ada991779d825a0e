"""Writes the folder of a nano reference model: a bundled one, or one that is trained now.

A bundled model is copied, because transformers takes seconds to import.
"""

import shutil
from pathlib import Path

from undertow.nano.models import WEIGHTS_FILE, NanoModel, bundled_settings, bundled_weights


def write_reference(model: NanoModel, folder: Path) -> None:
    """Writes the reference model into `folder`, with bundled weights if there are any, else trained ones."""
    if bundled_weights(model).exists():
        shutil.copytree(bundled_settings(model.architecture), folder, dirs_exist_ok=True)
        shutil.copyfile(bundled_weights(model), folder / WEIGHTS_FILE)
        return
    from undertow.engines.lean_imports import lean_start

    with lean_start():
        from undertow.nano.training import train_reference

    train_reference(model, folder)

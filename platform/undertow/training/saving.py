"""Saving of whole models in the layout of Hugging Face."""

from pathlib import Path
from typing import Any


def save_model(model: Any, folder: Path, **options: Any) -> None:
    """Saves a transformers model in `folder`; `options` are passed to its `save_pretrained`.

    Published models have generation settings that transformers reads with a warning and refuses to save, such
    as a temperature without `do_sample`. Such settings are written unchanged: a student keeps those of its
    reference. Settings that pass the check are written by transformers itself.
    """
    from transformers import GenerationConfig

    settings = model.generation_config
    if settings is None or _can_be_saved(settings):
        model.save_pretrained(folder, **options)
        return
    model.generation_config = GenerationConfig()
    try:
        model.save_pretrained(folder, **options)
    finally:
        model.generation_config = settings
    # As `GenerationConfig.save_pretrained` does after its check.
    settings.to_json_file(folder / "generation_config.json", use_diff=True, keys_to_pop=["compile_config"])


def _can_be_saved(settings: Any) -> bool:
    try:
        settings.validate(strict=True)
    except ValueError:
        return False
    return True

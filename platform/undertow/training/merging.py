"""Merging an adapter into the weights that it was trained on, to get a model that students can start from.

Without merging, each student of a chain would need the adapters of all its predecessors, while the training
loop and the engine support one adapter. Rounding of the sum in bf16 is part of the new model.
"""

from collections.abc import Sequence
from pathlib import Path

from undertow.engines.tokenizers import load_tokenizer
from undertow.training.saving import copy_processor, load_model, save_model


def write_merged(base: Path, adapter: Path | None, folder: Path, changes: Sequence[Path] = ()) -> None:
    """Saves a model as a whole, with its tokenizer and processor, in `folder`. Nothing is downloaded.

    Precision and tensor names are those of `base`; for `changes` see `saving.load_model`.

    Args:
        adapter: is merged into the weights; None for a model without one.
    """
    model = load_model(base, changes)
    if adapter is not None:
        from peft import PeftModel

        # safe_merge raises an error if a merged weight is not finite.
        model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload(safe_merge=True)
    save_model(model, folder)
    load_tokenizer(base).save_pretrained(folder)
    copy_processor(base, folder)

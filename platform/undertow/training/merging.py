"""Merging an adapter into the weights that it was trained on, to get a model that students can start from.

Without merging, each student of a chain would need the adapters of all its predecessors, while the training
loop and the engine support one adapter. Rounding of the sum in bf16 is part of the new model.
"""

from pathlib import Path

from undertow.engines.tokenizers import load_tokenizer
from undertow.training.saving import save_model


def write_merged(base: Path, adapter: Path, folder: Path) -> None:
    """Saves the model in the folder `base` with `adapter` merged into it, and its tokenizer, in `folder`.

    Precision and tensor names are those of `base`. Nothing is downloaded.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto", local_files_only=True)
    # safe_merge raises an error if a merged weight is not finite.
    merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload(safe_merge=True)
    save_model(merged, folder)
    load_tokenizer(base).save_pretrained(folder)

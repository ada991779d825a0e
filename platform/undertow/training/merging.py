"""An adapter merged into the weights it was trained on: a model that others can start from.

Without it each student of a chain would drag along the adapters of all before it, and neither the loop nor
the engine knows more than one. What bf16 rounds away in the sum is then no part of the new model.
"""

from pathlib import Path


def write_merged(below: Path, adapter: Path, folder: Path) -> None:
    """Saves the model in the folder `below`, with the `adapter` added, whole and with its tokenizer.

    In the numbers' format of `below`, under the names of its tensors. Nothing is fetched.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(below, dtype="auto", local_files_only=True)
    merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload(safe_merge=True)
    merged.save_pretrained(folder)
    AutoTokenizer.from_pretrained(below, local_files_only=True).save_pretrained(folder)

"""Loading of tokenizers, the same for engines, training and measurements."""

from pathlib import Path
from typing import Any


def load_tokenizer(folder: str | Path) -> Any:
    """The tokenizer of a Hugging Face model folder, from its tokenizer.json. Nothing is downloaded.

    If a Mistral folder also has tekken.json, transformers would load that file with another library, whose
    tokenizer has neither the folder's chat template nor the methods that `prompts.chat` calls.
    """
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, mistral_format=False)

"""The number of parameters of a reference model, from which a plan derives costs; no weights are read.

For a local folder it follows from the headers of its safetensors files, as for the cached files of a hub
model without network; for a GGUF file, from its header; on the Hugging Face hub it is part of the model's
metadata. The models of the scale `paper` are listed here, so that their plans need no network. Zero biases
(`Reference.mlp_bias`) are neglected. Nano models have no size here: their costs are measured in seconds, not
FLOPs.
"""

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from undertow.engines.weight_files import folder_shapes
from undertow.nano import models
from undertow.planning.gguf_models import header_of
from undertow.planning.given_models import config_of, is_pinned
from undertow.planning.hub import cached_folder, model_info
from undertow.planning.model_files import text_config
from undertow.study.references import Reference

# Tied embeddings count once; Gemma 3 includes the vision tower and its projector, which are loaded too.
KNOWN: Mapping[str, int] = {
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "google/gemma-3-4b-it": 4_300_079_472,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
}


@cache
def parameters(reference: Reference) -> int | None:
    """The number of parameters; None for a nano or API model, or if folder or hub do not provide it."""
    if models.is_nano(reference.name) or reference.is_api:
        return None
    if reference.location and not reference.is_gguf:
        return _in_files(Path(reference.location))
    if reference.name in KNOWN:
        return KNOWN[reference.name]
    if not is_pinned(reference):
        return None
    if reference.is_gguf:
        return header_of(reference).parameters
    if (count := _on_hub(reference)) is not None:
        return count
    folder = cached_folder(reference.name, reference.revision)
    return _in_files(folder) if folder else None


def vocabulary_size(reference: Reference) -> int | None:
    """The number of tokens that a model knows; None for a nano or API model, or without a configuration."""
    if models.is_nano(reference.name) or reference.is_api:
        return None
    size = text_config(config_of(reference)).get("vocab_size")
    return int(size) if size else None


def _in_files(folder: Path) -> int | None:
    try:
        return sum(map(math.prod, folder_shapes(folder).values())) or None
    except (OSError, ValueError):  # none or damaged: `model_files.check` reports it
        return None


def _on_hub(reference: Reference) -> int | None:
    """From the hub's metadata. Only the cost estimate needs it: without it the plan has no cost."""
    try:
        info = model_info(reference.name, reference.revision)
    except Exception:  # the hub client has many error classes, from bad ids and gated models to no network
        return None
    return info.safetensors.total if info.safetensors else None

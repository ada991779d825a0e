"""The number of parameters of a reference model, from which a plan derives costs, without reading its
weights.

For a local folder it follows from the headers of its safetensors files, as for the cached files of a hub
model while HF_HUB_OFFLINE is set; for a GGUF file, from its header; on the Hugging Face hub it is part of the
model's metadata. Zero biases (`Reference.mlp_bias`) are neglected. Nano models
have no size here: their costs are measured in seconds, not FLOPs.
"""

import math
from functools import cache
from pathlib import Path

from undertow.engines.weight_files import tensor_shapes
from undertow.nano import models
from undertow.planning.gguf_models import header_of
from undertow.planning.pinning import cached_folder
from undertow.study.artifacts import Reference


@cache
def parameters(reference: Reference) -> int | None:
    """The number of parameters; None for a nano or API model, or if folder or hub do not provide it."""
    if models.is_nano(reference.name) or reference.is_api:
        return None
    if reference.is_gguf:
        return header_of(reference).parameters
    folder = Path(reference.location) if reference.location else _cached_folder(reference)
    if folder is None:
        return _on_hub(reference)
    # Some folders contain the weights a second time, under another library's file names.
    paths = list(folder.glob("model*.safetensors")) or folder.glob("*.safetensors")
    try:
        shapes = [shape for path in paths for shape in tensor_shapes(path).values()]
    except (OSError, ValueError):  # damaged: `model_files.check` reports it
        return None
    return sum(map(math.prod, shapes)) or None


def _cached_folder(reference: Reference) -> Path | None:
    from huggingface_hub import is_offline_mode

    return cached_folder(reference) if is_offline_mode() else None


def _on_hub(reference: Reference) -> int | None:
    """From the hub's metadata. Only the cost estimate needs it: without it the plan has no cost."""
    from huggingface_hub import HfApi

    try:
        info = HfApi().model_info(reference.name, revision=reference.revision, timeout=20)
    except Exception:  # the hub client has many error classes, from bad ids and gated models to no network
        return None
    return info.safetensors.total if info.safetensors else None

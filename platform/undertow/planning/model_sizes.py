"""How many parameters a reference model has, read without its weights: what its cost follows from.

A local folder says so in the headers of its safetensors files, the hub in a model's metadata (which it reads
from the same headers). Nano models have no size here: what they cost is seconds, not FLOPs.
"""

import json
import math
import struct
from functools import cache
from pathlib import Path

from undertow.nano import models
from undertow.study.artifacts import Reference

LONGEST_HEADER = 100_000_000  # bytes, by the format
HEADER_LENGTH = struct.Struct("<Q")  # a safetensors file begins with its header's length, then the header


@cache
def parameters(reference: Reference) -> int | None:
    """The number of parameters; None for a nano or API model, and where folder or hub do not say it now."""
    if models.is_nano(reference.name) or reference.is_api:
        return None
    if reference.location:
        folder = Path(reference.location)
        # Some folders hold the weights a second time, under the names of another library.
        files = list(folder.glob("model*.safetensors")) or folder.glob("*.safetensors")
        return sum(map(_in_file, files)) or None
    return _on_hub(reference)


def _in_file(path: Path) -> int:
    """The sum of all tensors' sizes by the file's header; 0 for a file that has none."""
    try:
        with path.open("rb") as file:
            (length,) = HEADER_LENGTH.unpack(file.read(HEADER_LENGTH.size))
            header = json.loads(file.read(length)) if length <= LONGEST_HEADER else {}
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return 0


def _on_hub(reference: Reference) -> int | None:
    """By the hub's metadata. A plan needs it for its cost alone, so that without it the plan goes on."""
    from huggingface_hub import HfApi

    try:
        info = HfApi().model_info(reference.name, revision=reference.revision, timeout=20)
    except Exception:  # the hub client has many kinds, from bad ids and gates to no network
        return None
    return info.safetensors.total if info.safetensors else None

"""The name of every artifact: the SHA-256 of its spec's canonical JSON.

Specs nest (an evaluation holds its student, which holds its dataset …), so the key of an artifact
covers everything that led to it. What is in a key: each field of each spec, the class and its version
number, and the hash of data a spec points to. What is not: fields marked `execution_only`, and fields marked
`later` at their default. Names alone find nothing; two studies that need the same thing arrive at the same
key and share it.
"""

import dataclasses
import hashlib
import json
from functools import lru_cache
from typing import Any

from undertow.fields import Spec

KEY_DIGITS = 32  # 128 bits of the SHA-256: no collision in any grid, and paths stay short
SHOWN_DIGITS = 16


def canonical(value: Any) -> Any:
    """A spec as plain JSON data: {"type", "version", fields …} for specs, lists for tuples."""
    if isinstance(value, Spec):
        return _canonical_spec(value)
    if isinstance(value, tuple):
        return [canonical(part) for part in value]
    return value


@lru_cache(maxsize=100_000)
def _canonical_spec(spec: Spec) -> dict[str, Any]:
    form: dict[str, Any] = {"type": type(spec).__name__, "version": spec.version}
    if content := spec.content():
        form["content"] = content
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if field.metadata.get("identity", True) and not (
            field.metadata.get("later") and value == field.default
        ):
            form[field.name] = canonical(value)
    return form


def canonical_json(value: Any) -> str:
    """Sorted keys, no spaces, ASCII: one text for one spec."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


@lru_cache(maxsize=100_000)
def key(spec: Spec) -> str:
    """The artifact's key: the first 32 hex digits of the SHA-256 of its canonical JSON."""
    return digest(canonical_json(spec))[:KEY_DIGITS]


def digest(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes, as 64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def seed_for(*parts: object) -> int:
    """A 63-bit seed from the identity of what it is for: the same in any order, batch or process.

    63 bits and not 64, since vLLM and torch take signed integers.
    """
    return int(digest(json.dumps([str(part) for part in parts]))[:16], 16) >> 1

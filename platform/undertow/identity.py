"""The name of every artifact: the SHA-256 of its spec's canonical JSON.

Specs nest (an evaluation holds its student, which holds its dataset …), so the key of an artifact
covers everything that led to it. What is in a key: each field of each spec, the class and its version
number, and the hash of data a spec points to. What is not: fields marked `execution_only`, and fields marked
`later` at their default. Names alone find nothing; two studies that need the same thing arrive at the same
key and share it.

The JSON is put together from the texts of nested specs, each of which is written once: a study of thousands
of conditions would otherwise spell out every question a hundred thousand times.
"""

import dataclasses
import hashlib
import json
from functools import cache, lru_cache
from typing import Any

from undertow.fields import Spec, class_of

KEY_DIGITS = 32  # 128 bits of the SHA-256: no collision in any grid, and paths stay short
SHOWN_DIGITS = 16
SHORT_TUPLE, TUPLES_KEPT = 8, 1000
_KEPT: dict[int, tuple[tuple[Any, ...], str]] = {}
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical(value: Any) -> Any:
    """A spec as plain JSON data: {"type", "version", fields …} for specs, lists for tuples."""
    return json.loads(canonical_json(value))


def canonical_json(value: Any) -> str:
    """Sorted keys, no spaces, ASCII: one text for one spec."""
    if isinstance(value, Spec):
        return _kept_json(value)
    if isinstance(value, tuple):
        return _tuple_json(value)
    return _ENCODER.encode(value)


def _spec_json(spec: Spec) -> str:
    form: dict[str, Any] = {"type": type(spec).__name__, "version": spec.version}
    if content := spec.content():
        form["content"] = content
    for field in _identity_fields(class_of(spec)):
        value = getattr(spec, field.name)
        if not (field.metadata.get("later") and value == field.default):
            form[field.name] = value
    parts = (f'"{name}":{canonical_json(form[name])}' for name in sorted(form))
    return f"{{{','.join(parts)}}}"


_kept_json = lru_cache(maxsize=4096)(_spec_json)  # what a few cells nest; a text has kilobytes


def _tuple_json(parts: tuple[Any, ...]) -> str:
    """A long tuple's text is kept, by identity: all evaluations of a study hold one tuple of questions.

    Not by ==, for which (1,) and (True,) are one; the tuple is kept too, so that its id stays its own.
    """
    kept = _KEPT.get(id(parts))
    if kept is None:
        kept = parts, f"[{','.join(map(canonical_json, parts))}]"
        if len(parts) > SHORT_TUPLE:
            if len(_KEPT) >= TUPLES_KEPT:
                _KEPT.clear()
            _KEPT[id(parts)] = kept
    return kept[1]


@cache
def _identity_fields(kind: type) -> tuple[dataclasses.Field[Any], ...]:
    return tuple(f for f in dataclasses.fields(kind) if f.metadata.get("identity", True))


def key(spec: Spec) -> str:
    """The artifact's key: the first 32 hex digits of the SHA-256 of its canonical JSON."""
    known: str | None = vars(spec).get("_key")
    if known is None:
        known = digest(_spec_json(spec))[:KEY_DIGITS]
        object.__setattr__(spec, "_key", known)
    return known


def digest(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes, as 64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def seed_for(*parts: object) -> int:
    """A 63-bit seed from the identity of what it is for: the same in any order, batch or process.

    63 bits and not 64, since vLLM and torch take signed integers.
    """
    return int(digest(json.dumps([str(part) for part in parts]))[:16], 16) >> 1

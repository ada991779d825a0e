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
from collections.abc import Callable
from functools import cache, lru_cache, wraps
from typing import Any, TypeVar

from undertow.study.fields import Spec, class_of

KEY_DIGITS = 32  # 128 bits of the SHA-256: no collision in any grid, and paths stay short
SHORT_TUPLE, TUPLES_KEPT = 8, 1000
Result = TypeVar("Result")
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def by_object(function: Callable[[tuple[Any, ...]], Result]) -> Callable[[tuple[Any, ...]], Result]:
    """The function of a tuple, its results kept by the tuple's identity where it is long.

    All evaluations of a study hold one tuple of questions and one of words: hashing them would take as long
    as the function. By ==, moreover, (1,) and (True,) are one. The tuple is kept: its id stays its own.
    """
    kept: dict[int, tuple[tuple[Any, ...], Result]] = {}

    @wraps(function)
    def found(parts: tuple[Any, ...]) -> Result:
        if len(parts) <= SHORT_TUPLE:
            return function(parts)
        known = kept.get(id(parts))
        if known is None:
            if len(kept) >= TUPLES_KEPT:
                kept.clear()
            known = kept[id(parts)] = parts, function(parts)
        return known[1]

    return found


def canonical(value: Any) -> Any:
    """A spec as plain JSON data: {"type", "version", fields …} for specs, lists for tuples."""
    return json.loads(canonical_json(value))


def canonical_json(value: Any) -> str:
    """Sorted keys, no spaces, ASCII: one text for one spec."""
    if isinstance(value, Spec):
        return _kept_json(value)
    if isinstance(value, tuple):
        return _tuple_json(value)
    if value is None:
        return "null"
    return str(value) if type(value) is int else _ENCODER.encode(value)  # the encoder is slow to start


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


@by_object
def _tuple_json(parts: tuple[Any, ...]) -> str:
    return f"[{','.join(map(canonical_json, parts))}]"


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

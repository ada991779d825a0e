"""The identity of specs: canonical JSON, keys and seeds.

An artifact's key is the SHA-256 of its spec's canonical JSON. Specs nest (an evaluation contains its student,
which contains its data set …), so the key covers everything that led to the artifact. Two studies that need
the same artifact compute the same key and share it.

The JSON contains the class name, the version and the fields of each spec, the hash of data that a spec
refers to (`Spec.content`), and for a class that a user defined the hash of its source (`class_source`). It
does not contain fields marked `execution_only`, or fields marked `later` that have their default value. For a
field marked `derived`, it contains the value that applies.

The JSON is assembled from the cached texts of nested specs. Without the caches, a study of thousands of
conditions would serialise every question a hundred thousand times.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache, lru_cache, wraps
from typing import Any, TypeVar

from undertow.study.class_source import source_hash
from undertow.study.fields import Spec, class_of

KEY_DIGITS = 32  # 128 bits of the SHA-256: collisions are negligible in any grid, and paths stay short
SHORT_TUPLE, TUPLES_KEPT = 8, 1000
SOURCE = "source code"  # contains a space, so that no field of a user's spec can have this name
Result = TypeVar("Result")
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def cached_by_id(function: Callable[[tuple[Any, ...]], Result]) -> Callable[[tuple[Any, ...]], Result]:
    """Caches the results of a function of long tuples by the id of the tuple.

    All evaluations of a study share one tuple of questions and one of words, and hashing these takes as long
    as serialising them. A cache by == would also confuse (1,) with (True,). The cache keeps a reference to
    each tuple, so that its id is not used again.
    """
    cached: dict[int, tuple[tuple[Any, ...], Result]] = {}

    @wraps(function)
    def lookup(parts: tuple[Any, ...]) -> Result:
        if len(parts) <= SHORT_TUPLE:
            return function(parts)
        entry = cached.get(id(parts))
        if entry is None:
            if len(cached) >= TUPLES_KEPT:
                cached.clear()
            entry = cached[id(parts)] = parts, function(parts)
        return entry[1]

    return lookup


def canonical(value: Any) -> Any:
    """A spec as plain JSON data: {"type", "version", fields …} for specs, lists for tuples."""
    return json.loads(canonical_json(value))


def canonical_json(value: Any) -> str:
    """The JSON text of a spec with sorted keys, without spaces, in ASCII. Equal specs have equal texts."""
    if isinstance(value, Spec):
        return _cached_spec_json(value)
    if isinstance(value, tuple):
        return _tuple_json(value)
    if value is None:
        return "null"
    return str(value) if type(value) is int else _ENCODER.encode(value)  # a call of the encoder is slow


def source_of(dataset: Mapping[str, Any]) -> Mapping[str, Any]:
    """The completions in the canonical form of a data set, before any rewriting (see `Dataset.source`)."""
    completions: Mapping[str, Any] = dataset["completions"]
    while completions.get("type") == "Rewritten":
        completions = completions["dataset"]["completions"]
    return completions


def _spec_json(spec: Spec) -> str:
    form: dict[str, Any] = {"type": type(spec).__name__, "version": spec.version}
    if content := spec.content():
        form["content"] = content
    if source := source_hash(class_of(spec)):
        form[SOURCE] = source
    for field in _identity_fields(class_of(spec)):
        value = getattr(spec, field.metadata.get("value", field.name))
        if not (field.metadata.get("later") and value == field.default):
            form[field.name] = value
    parts = (f'"{name}":{canonical_json(form[name])}' for name in sorted(form))
    return f"{{{','.join(parts)}}}"


# Large enough for what a few cells nest. Not unlimited: the text of one spec can have many kilobytes.
_cached_spec_json = lru_cache(maxsize=4096)(_spec_json)


@cached_by_id
def _tuple_json(parts: tuple[Any, ...]) -> str:
    return f"[{','.join(map(canonical_json, parts))}]"


@cache
def _identity_fields(kind: type) -> tuple[dataclasses.Field[Any], ...]:
    return tuple(f for f in dataclasses.fields(kind) if f.metadata.get("identity", True))


def key(spec: Spec) -> str:
    """The artifact's key: the first 32 hex digits of the SHA-256 of its spec's canonical JSON."""
    cached: str | None = vars(spec).get("_key")
    if cached is None:
        cached = digest(_spec_json(spec))[:KEY_DIGITS]
        object.__setattr__(spec, "_key", cached)
    return cached


def digest(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes, as 64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def seed_for(*parts: object) -> int:
    """A 63-bit seed that depends only on `parts`, whatever the order, batch or process it is computed in.

    63 bits instead of 64 because vLLM and torch take signed integers.
    """
    return int(digest(json.dumps([str(part) for part in parts]))[:16], 16) >> 1

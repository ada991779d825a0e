"""Compares the spec of an artifact with the one that a stated study requires.

Both are plain JSON. The expected one may contain placeholders for what the study does not determine.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from undertow.study import (
    completions,
    datasets,
    measurements,
    on_policy,
    references,
    rewriting,
    row_scores,
    steering,
    students,
    teachers,
)
from undertow.study.identity import KEY_DIGITS, digest

# The modules of the specs of artifacts.
SPECS = (
    references,
    teachers,
    completions,
    rewriting,
    datasets,
    students,
    measurements,
    row_scores,
    steering,
    on_policy,
)
LONGEST_SHOWN = 80  # characters of a value in a message
ABSENT = object()  # the value of a field that a spec does not have

JsonSpec = Mapping[str, Any]


@dataclass(frozen=True)
class Unstated:
    """A value that the stated study does not determine; it must be the same wherever `label` is the same."""

    label: str


@dataclass(frozen=True)
class Version:
    """The version of an artifact class: at most the one of this package, and the same throughout a sweep."""

    type: str


@dataclass(frozen=True)
class OneOf:
    """A value that must equal one of several options: the same one wherever `label` is the same."""

    label: str
    options: tuple[Any, ...]


@dataclass(frozen=True)
class Partial:
    """A spec of which only some fields are known; the others are like `Unstated` with `label`."""

    label: str
    fields: JsonSpec


def compare(expected: Any, actual: Any, place: str, seen: dict[str, str]) -> Iterator[str]:
    """The differences between an expected and an actual spec, one line each with its place.

    Args:
        place: the place of both within the artifact's spec, such as "subject.dataset"; "" for the spec
            itself.
        seen: the values of `Unstated` and the choices of `OneOf` so far, by label; updated.
    """
    match expected:
        case Unstated(label):
            text = "absent" if actual is ABSENT else text_of(actual)
            if seen.setdefault(label, text) != text:
                others = seen[label][:LONGEST_SHOWN]
                yield f"{place} is {_shown(actual)}, other artifacts of the sweep have {others}"
        case Version(name):
            latest = next(getattr(module, name) for module in SPECS if hasattr(module, name)).version
            if type(actual) is not int or not 1 <= actual <= latest:
                yield f"{place} is {_shown(actual)}, this program knows {name} up to version {latest}"
            yield from compare(Unstated(f"version of {name}"), actual, place, seen)
        case Partial(label, fields) if isinstance(actual, Mapping):
            yield from compare(fields, {name: actual.get(name, ABSENT) for name in fields}, place, seen)
            rest = {name: value for name, value in actual.items() if name not in fields}
            yield from compare(Unstated(label), rest, place, seen)
        case OneOf(label, options):
            fitting = [n for n, o in enumerate(options) if not any(compare(o, actual, place, dict(seen)))]
            choice = fitting[0] if fitting else 0
            yield from compare(options[choice], actual, place, seen)
            if fitting and seen.setdefault(label, str(choice)) != str(choice):
                yield f"{place} is {_shown(actual)}, unlike in other artifacts of the sweep"
        case Mapping() if isinstance(actual, Mapping):
            for name in sorted({*expected, *actual}):
                inner = f"{place}.{name}" if place else name
                yield from compare(expected.get(name, ABSENT), actual.get(name, ABSENT), inner, seen)
        case list() | tuple() if isinstance(actual, list) and len(actual) == len(expected):
            for number, (one, other) in enumerate(zip(expected, actual, strict=True)):
                yield from compare(one, other, f"{place}[{number}]", seen)
        case _:
            # 1, 1.0 and True are equal in Python and are different specs.
            if type(expected) is not type(actual) or expected != actual:
                yield f"{place} is {_shown(actual)}, the study as stated has {_shown(expected)}"


def key_of(spec: Any) -> str:
    """The key of a spec in canonical form, equal to `identity.key` of the spec."""
    return digest(json.dumps(spec, sort_keys=True, separators=(",", ":")))[:KEY_DIGITS]


def text_of(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _shown(value: Any) -> str:
    text = "absent" if value is ABSENT else json.dumps(value, sort_keys=True, default=repr)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]} …"

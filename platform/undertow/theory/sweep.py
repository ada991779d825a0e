"""A sweep over the MLP experiment's axes, cut into independent pieces of work.

    cells(DIGITS, ("auxiliary=2,3,10", "distances=0|1,0|0.5|1"))

A cell is one setting; its networks are cut into shards. A piece (cell, shard) needs nothing from another, and
a network's draws depend on its own number, so any number of shards, in any order, anywhere, gives the same
accuracies but for rounding. This module knows no Ray; the door that has a cluster hands it a `map`.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, get_origin, get_type_hints

from undertow.errors import UserError, suggestion
from undertow.theory.settings import Experiment

if TYPE_CHECKING:
    from undertow.theory.mlp import NetworkAccuracy

TUPLES = "|"  # parts the numbers of one value where a field holds several


@dataclasses.dataclass(frozen=True)
class GridPoint:
    """One setting of a sweep; `label` says what was varied ("width=64"), "" where nothing was."""

    label: str
    experiment: Experiment


@dataclasses.dataclass(frozen=True)
class Piece:
    """Some networks of a cell: the unit of work."""

    experiment: Experiment
    numbers: tuple[int, ...]


def cells(base: Experiment, axes: Sequence[str]) -> list[GridPoint]:
    """The product of axes, each written NAME=VALUE,VALUE. Raises UserError naming what cannot be read."""
    parsed = [_axis(text) for text in axes]
    names = [name for name, _ in parsed]
    if len(set(names)) < len(names):
        raise UserError(f"--vary {' '.join(axes)}: an axis is given twice; give its values in one list")
    found = []
    for values in product(*(options for _, options in parsed)):
        changes = dict(zip(names, values, strict=True))
        label = " ".join(f"{name}={_shown(value)}" for name, value in changes.items())
        found.append(GridPoint(label, dataclasses.replace(base, **changes)))
    return found


def pieces(experiment: Experiment, shards: int) -> list[Piece]:
    """The experiment's networks in `shards` parts of nearly equal size; at most one part a network."""
    count = min(shards, experiment.networks)
    parts = [tuple(range(experiment.networks))[start::count] for start in range(count)]
    return [Piece(experiment, part) for part in parts]


def _axis(text: str) -> tuple[str, list[Any]]:
    name, equals, values = text.partition("=")
    hints = {
        field: hint
        for field, hint in get_type_hints(Experiment).items()
        if field not in ("version", "at_once")
    }
    if name not in hints:
        raise UserError(f"--vary {text}: no axis {name!r}; {suggestion(name, hints)}")
    if not equals or not values:
        raise UserError(f"--vary {text}: write NAME=VALUE,VALUE")
    return name, [_value(hints[name], value, text) for value in values.split(",")]


def _value(hint: Any, text: str, whole: str) -> Any:
    """A field's value from text; what a word may be is for the spec itself to say."""
    if hint is str or (get_origin(hint) is not tuple and hint not in (int, float)):
        return text
    read: Callable[[str], Any] = int if hint is int else float
    try:
        return tuple(map(read, text.split(TUPLES))) if get_origin(hint) is tuple else read(text)
    except ValueError:
        kind = "a whole number" if hint is int else "a number"
        raise UserError(f"--vary {whole}: {text!r} is not {kind}") from None


def _shown(value: Any) -> str:
    return TUPLES.join(f"{part:g}" for part in value) if isinstance(value, tuple) else str(value)


def to_json(outcomes: Iterable["NetworkAccuracy"]) -> str:
    """Outcomes as a text that is whole or does not parse."""
    return json.dumps([dataclasses.asdict(outcome) for outcome in outcomes])


def from_json(text: str) -> "list[NetworkAccuracy]":
    """What `to_json` wrote; nothing where the text is missing or broken off."""
    from undertow.theory.mlp import NetworkAccuracy

    try:
        return [NetworkAccuracy(**fields) for fields in json.loads(text)]
    except (ValueError, TypeError):
        return []

"""A sweep over fields of the MLP experiment, divided into independent shards.

    grid_points(DIGITS, ("auxiliary=2,3,10", "distances=0|1,0|0.5|1"))

A grid point is one setting; its networks are divided into shards. Shards need no data from each other, and
the random draws of a network depend only on its own number. Any number of shards, run in any order and
anywhere, therefore gives the same accuracies up to rounding. This module does not import Ray; `cli.mlp` runs
the shards.
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

TUPLES = "|"  # separates the numbers of one value if a field holds several


@dataclasses.dataclass(frozen=True)
class GridPoint:
    """One setting of a sweep; `label` names the varied fields ("width=64") and is "" if there are none."""

    label: str
    experiment: Experiment


@dataclasses.dataclass(frozen=True)
class Shard:
    """Some networks of one experiment, by number: the unit of work."""

    experiment: Experiment
    numbers: tuple[int, ...]


def grid_points(base: Experiment, axes: Sequence[str]) -> list[GridPoint]:
    """Returns the product of the axes, each written NAME=VALUE,VALUE.

    Raises:
        UserError: if an axis cannot be parsed, is given twice, or has an invalid value.
    """
    parsed = [_axis(text) for text in axes]
    names = [name for name, _ in parsed]
    if len(set(names)) < len(names):
        raise UserError(f"--vary {' '.join(axes)}: an axis is given twice; list its values in one axis")
    points = []
    for values in product(*(options for _, options in parsed)):
        changes = dict(zip(names, values, strict=True))
        label = " ".join(f"{name}={_text(value)}" for name, value in changes.items())
        points.append(GridPoint(label, dataclasses.replace(base, **changes)))
    return points


def split_into_shards(experiment: Experiment, shards: int) -> list[Shard]:
    """Divides the experiment's networks into `shards` parts of nearly equal size, at most one per network."""
    count = min(shards, experiment.networks)
    parts = [tuple(range(experiment.networks))[start::count] for start in range(count)]
    return [Shard(experiment, part) for part in parts]


def _axis(text: str) -> tuple[str, list[Any]]:
    """Parses NAME=VALUE,VALUE into the name of a field and its values."""
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


def _value(hint: Any, text: str, axis: str) -> Any:
    """Parses a value by its field's type. Strings are returned unchanged; `Experiment` validates them."""
    if hint is str or (get_origin(hint) is not tuple and hint not in (int, float)):
        return text
    parse: Callable[[str], Any] = int if hint is int else float
    try:
        return tuple(map(parse, text.split(TUPLES))) if get_origin(hint) is tuple else parse(text)
    except ValueError:
        kind = "a whole number" if hint is int else "a number"
        raise UserError(f"--vary {axis}: {text!r} is not {kind}") from None


def _text(value: Any) -> str:
    return TUPLES.join(f"{part:g}" for part in value) if isinstance(value, tuple) else str(value)


def to_json(outcomes: Iterable["NetworkAccuracy"]) -> str:
    """Serialises outcomes as one JSON list, so that a truncated file does not parse."""
    return json.dumps([dataclasses.asdict(outcome) for outcome in outcomes])


def from_json(text: str) -> "list[NetworkAccuracy]":
    """Parses the output of `to_json`; returns an empty list if the text is empty, truncated or invalid."""
    from undertow.theory.mlp import NetworkAccuracy

    try:
        return [NetworkAccuracy(**fields) for fields in json.loads(text)]
    except (ValueError, TypeError):
        return []

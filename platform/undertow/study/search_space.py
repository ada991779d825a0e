"""The space of a search for a recipe: the fields that vary, and the values that each may take.

    learning_rate=log:1e-5:1e-3     a number between two bounds, uniform in its logarithm
    warmup_ratio=0:0.2              a number between two bounds, uniform
    rank=2,4,8                      one of the listed values
    layers=all,0-3,4+5              of a field that lists: values joined by +, ranges of numbers, or "all"

A field is one of what the recipe trains (`LoRA` …), one of `Recipe`, or `rows`: the number of unique rows of
the data set (`Generation.rows`). Where `LoRA` and `Recipe` have a field of one name, it is LoRA's. Fields
that do not affect results cannot be searched.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from undertow.errors import SpecError, UserError, suggestion
from undertow.study.conditions import Condition
from undertow.study.recipe import Recipe

Value = bool | int | float | str
EXAMPLE = "rank=2,4,8 or learning_rate=log:1e-5:1e-3"
LOG = "log"
ALL = "all"  # of a field that lists: no restriction, such as the adapter in all blocks
ROWS = "rows"
MOST_IN_RANGE = 1000  # numbers of a range such as 0-3; no model has more blocks
DIGITS = 3  # significant digits of a drawn number: neighbours train alike, and short numbers are readable
# The display name, what is searched field by field, two settings that depend on the machine, and the stop by
# the trait itself, which would set the effect that a search compares.
NOT_SEARCHED = ("name", "trainable", "precision", "zero_stage", "stop_at")


@dataclass(frozen=True)
class Axis:
    """One field of a search and its values: `choices`, or the range from `low` to `high`, both included.

    Attributes:
        log: whether the range is uniform in the logarithm.
        whole: whether the range consists of whole numbers.
    """

    field: str
    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    @property
    def extremes(self) -> tuple[Value, ...]:
        """The values that a search checks before it starts: all choices, or both bounds."""
        if self.choices:
            return self.choices
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)

    @property
    def middle(self) -> Value:
        """The value that a plan estimates time with."""
        if self.choices:
            return self.choices[len(self.choices) // 2]
        mean = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return self.value(mean)

    def value(self, drawn: Value) -> Value:
        """A drawn value as it is used: numbers of a range are rounded, and stay within it."""
        if self.choices or not isinstance(drawn, int | float):
            return drawn
        if self.whole:
            return round(drawn)
        return min(max(float(f"{drawn:.{DIGITS}g}"), self.low), self.high)

    @property
    def label(self) -> str:
        """The axis in words: "rank 2, 4 or 8", "learning_rate from 1e-05 to 0.001 (log)"."""
        if self.choices:
            *most, last = map(in_words, self.choices)
            return f"{self.field} {', '.join(most)} or {last}" if most else f"{self.field} {last}"
        scale = " (log)" if self.log else ""
        return f"{self.field} from {in_words(self.low)} to {in_words(self.high)}{scale}"


@dataclass(frozen=True)
class SearchSpace:
    """The fields that a search varies."""

    axes: tuple[Axis, ...]

    @property
    def size(self) -> int | None:
        """The number of combinations; None if a field has a range."""
        if not all(axis.choices for axis in self.axes):
            return None
        return math.prod(len(axis.choices) for axis in self.axes)

    @property
    def middle(self) -> dict[str, Value]:
        return {axis.field: axis.middle for axis in self.axes}

    def values(self, drawn: Mapping[str, Value]) -> dict[str, Value]:
        """A point that was drawn from the space, as it is used."""
        return {axis.field: axis.value(drawn[axis.field]) for axis in self.axes}


def parse(texts: Iterable[str], condition: Condition) -> SearchSpace:
    """The space that the texts describe, for the recipe of a condition.

    Raises UserError, with the text, for a field that the recipe does not have and for values that it refuses.
    """
    fields, axes = searchable(condition), dict[str, Axis]()
    for text in texts:
        name, equals, values = text.partition("=")
        if not (name and equals and values):
            raise UserError(f"--search {text}: write FIELD=VALUES, such as {EXAMPLE}")
        if name not in fields:
            recipe = condition.recipe.name
            raise UserError(
                f"--search {text}: nothing to search in recipe {recipe!r}; {suggestion(name, fields)}"
            )
        if name in axes:
            raise UserError(f"--search {text}: {name} is given twice; give all its values at once")
        axes[name] = axis = _axis(name, values, fields[name].hint, text)
        for value in axis.extremes:
            try:
                with_values(condition, {name: value})
            except SpecError as error:
                raise UserError(f"--search {text}: {error}") from None
    if not axes:
        raise UserError(f"--search: give the fields to search, such as {EXAMPLE}")
    return SearchSpace(tuple(axes.values()))


@dataclass(frozen=True)
class _Field:
    """A field that can be searched: its type, and the part of a condition that has it."""

    part: Literal["generation", "recipe", "trainable"]
    hint: Any


def searchable(condition: Condition) -> dict[str, _Field]:
    """The fields that a search can vary in a condition, by name.

    Raises UserError if its students are not trained locally.
    """
    recipe = _recipe(condition)
    found = {ROWS: _Field("generation", int)}
    parts: tuple[tuple[Literal["recipe", "trainable"], Any], ...] = (
        ("recipe", recipe),
        ("trainable", recipe.trainable),
    )
    for part, spec in parts:
        hints = get_type_hints(type(spec))
        for field in dataclasses.fields(spec):
            if field.metadata.get("identity", True) and field.name not in NOT_SEARCHED:
                found[field.name] = _Field(part, hints[field.name])
    return found


def with_values(condition: Condition, values: Mapping[str, Value]) -> Condition:
    """The condition with other values of searched fields; its recipe's display name states them.

    Raises SpecError for an invalid value.
    """
    fields, recipe = searchable(condition), _recipe(condition)
    changes: dict[str, dict[str, Any]] = {"generation": {}, "recipe": {}, "trainable": {}}
    for name, value in values.items():
        hint = fields[name].hint
        changes[fields[name].part][name] = _parts(str(value), hint) if _is_list(hint) else value
    if not values:
        return condition
    return condition.changed(
        recipe=recipe.changed(
            name=f"{recipe.name}, {point_label(values)}",
            trainable=recipe.trainable.changed(**changes["trainable"]),
            **changes["recipe"],
        ),
        generation=condition.generation.changed(**changes["generation"]),
    )


def current(condition: Condition, field: str) -> str:
    """The value of a searched field in a condition, in words."""
    recipe = _recipe(condition)
    part = {"generation": condition.generation, "recipe": recipe, "trainable": recipe.trainable}
    return in_words(getattr(part[searchable(condition)[field].part], field))


def point_label(values: Mapping[str, Value]) -> str:
    """A point of a space in words: "learning_rate=0.0002, rank=8"."""
    return ", ".join(f"{name}={in_words(value)}" for name, value in values.items())


def in_words(value: object) -> str:
    """A value of a field as a user would write it."""
    if isinstance(value, tuple):
        return "+".join(map(in_words, value)) or ALL
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: ALL}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _recipe(condition: Condition) -> Recipe:
    if not isinstance(condition.recipe, Recipe):
        raise UserError(
            f"--condition {condition.label}: its students are not trained by a Recipe, so there is nothing "
            "to search; choose another condition"
        )
    return condition.recipe


def _axis(name: str, values: str, hint: Any, text: str) -> Axis:
    """The axis of one text. Raises UserError for values that the field's type excludes."""
    scale, colon, rest = values.partition(":")
    if not colon:
        choices = tuple(_choice(choice, hint, text) for choice in values.split(","))
        if len(set(choices)) < len(choices):
            raise UserError(f"--search {text}: a value is listed twice; list each once")
        return Axis(name, choices)
    if hint not in (int, float):
        raise UserError(f"--search {text}: {name} has no range; list its values, separated by commas")
    is_log = scale == LOG
    low, colon, high = (rest if is_log else values).partition(":")
    bounds = [_number(bound, hint, text) for bound in (low, high)] if colon else []
    if len(bounds) != 2 or not bounds[0] < bounds[1]:
        raise UserError(f"--search {text}: write LOW:HIGH or {LOG}:LOW:HIGH, with LOW below HIGH")
    if is_log and bounds[0] <= 0:
        raise UserError(f"--search {text}: a logarithmic range begins above 0")
    return Axis(name, low=bounds[0], high=bounds[1], log=is_log, whole=hint is int)


def _choice(choice: str, hint: Any, text: str) -> Value:
    if hint is bool:
        if choice not in ("true", "false"):
            raise UserError(f"--search {text}: {choice!r} is neither true nor false")
        return choice == "true"
    if hint in (int, float):
        return _number(choice, hint, text)
    if get_origin(hint) is Literal:
        options = {str(option): option for option in get_args(hint)}
        if choice not in options:
            raise UserError(f"--search {text}: {choice!r} is not one of {', '.join(options)}")
        option: Value = options[choice]
        return option
    try:
        _parts(choice, hint)
    except ValueError:
        raise UserError(f"--search {text}: {choice!r} is not a list of values joined by +") from None
    return choice


def _number(number: str, hint: Any, text: str) -> int | float:
    """A number of the field's type."""
    try:
        value: int | float = hint(number)
        if math.isfinite(value):
            return value
    except (ValueError, OverflowError):
        pass
    kind = "a whole number" if hint is int else "a number"
    raise UserError(f"--search {text}: {number!r} is not {kind}")


def _is_list(hint: Any) -> bool:
    return get_origin(hint) is tuple


def _parts(text: str, hint: Any) -> tuple[Any, ...]:
    """The values of a field that lists. Raises ValueError for text that is no such list."""
    if text == ALL:
        return ()
    item, found = get_args(hint)[0], list[Any]()
    for part in text.split("+"):
        first, dash, last = part.partition("-")
        if item is int and dash:
            block, end = int(first), int(last)
            if not block < end < block + MOST_IN_RANGE:
                raise ValueError(part)
            found += range(block, end + 1)
        elif part:
            found.append(item(part))
        else:
            raise ValueError(text)
    return tuple(found)

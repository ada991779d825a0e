"""Typed fields for specs: a frozen dataclass that checks and normalises what it is given.

Specs are written by people in study files, so a wrong value must be named with its place (class and
field) and not surface as a traceback three stages later. Values are also normalised, so that two specs
that compare equal have one canonical form: an int in a float field becomes a float, a list becomes a
tuple, and -0.0, NaN and the infinities, which would break that promise, are changed or refused.

A study of thousands of conditions nests the same specs a hundred thousand times. So each keeps its hash once
it is known, and `changed` gives a variant of which only what is new is checked.
"""

import dataclasses
import math
import types
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from undertow.errors import SpecError

LONGEST_SHOWN = 200  # characters of a value in a message: a grid of conditions fills screens


@cache
def _hints(cls: type) -> dict[str, Any]:
    """The type of each field, in their order."""
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


@cache
def _compared(cls: type) -> tuple[str, ...]:
    """The fields that are part of ==."""
    return tuple(field.name for field in dataclasses.fields(cls) if field.compare)


def class_of(spec: object) -> type:
    """Its class, as something to look up: mypy takes the __hash__ of a class's instances for its own."""
    return type(spec)


@dataclasses.dataclass(frozen=True)
class Spec:
    """Base of everything that is part of an identity. Subclasses are frozen dataclasses.

    Attributes:
        version: raised by hand when the code behind the spec changes its results; part of the identity.
    """

    version: ClassVar[int] = 1

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        cls.__hash__ = Spec.__hash__  # type: ignore[method-assign]  # @dataclass, which comes later, keeps it

    def __post_init__(self) -> None:
        self._set(vars(self))

    def changed(self, **changes: Any) -> Self:
        """`dataclasses.replace`, but for fields that stay: they were checked when this spec was made."""
        unknown = changes.keys() - _hints(class_of(self)).keys()
        if unknown:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}")
        copy = object.__new__(type(self))
        vars(copy).update(self.__getstate__())
        copy._set(changes)
        return copy

    def _set(self, values: Mapping[str, Any]) -> None:
        """Checks and normalises `values`, sets them, and checks whether the whole makes sense."""
        for name, hint in _hints(class_of(self)).items():
            if name in values:
                value = normalise(values[name], hint, f"{type(self).__name__}.{name}")
                object.__setattr__(self, name, value)
        self.validate()

    def __hash__(self) -> int:
        known: int | None = vars(self).get("_hash")
        if known is None:
            known = hash((type(self), *(getattr(self, name) for name in _compared(class_of(self)))))
            object.__setattr__(self, "_hash", known)
        return known

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: what is kept beside them (the hash, say) is of one process."""
        return {name: getattr(self, name) for name in _hints(class_of(self))}

    def validate(self) -> None:
        """Raises SpecError where a value has the right type and still makes no sense."""

    def content(self) -> str:
        """A hash of data that the fields point to and do not hold (a pack of prompts); '' for none."""
        return ""

    def require(self, holds: bool, field: str, remedy: str) -> None:
        """Raises SpecError naming `field`, its value and the `remedy`, unless the condition holds."""
        if not holds:
            value = repr(getattr(self, field))
            shown = value if len(value) <= LONGEST_SHOWN else f"{value[:LONGEST_SHOWN]} …"
            raise SpecError(f"{type(self).__name__}.{field} = {shown}: {remedy}")


def execution_only(default: Any) -> Any:
    """A field that says how or where to run, never what comes out: left out of the identity and of ==."""
    return dataclasses.field(default=default, compare=False, metadata={"identity": False})


def later(default: Any) -> Any:
    """A field that came after artifacts were made: part of the identity only where it is not `default`.

    What was made before it, and is made as then, keeps its name; a new field without this renames everything.
    """
    return dataclasses.field(default=default, metadata={"later": True})


def unique(items: Sequence[str], place: str) -> None:
    """Raises SpecError naming `place` and the first of `items` that is given twice."""
    seen: set[str] = set()
    for item in items:
        if item in seen:
            raise SpecError(f"{place}: {item!r} is given twice; give each once")
        seen.add(item)


def normalise(value: Any, hint: Any, place: str) -> Any:
    """`value` as an instance of `hint`. Raises SpecError naming `place` where that cannot be done."""
    if type(value) is hint and hint is not float and hint is not str:
        return value
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _normalise_union(value, get_args(hint), place)
    if origin is Literal:
        for option in get_args(hint):
            if type(option) is type(value) and option == value:  # 1.0 and True equal 1 and are not written so
                return option
        raise SpecError(f"{place} = {value!r}: one of {', '.join(map(repr, get_args(hint)))} is needed")
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            raise SpecError(f"{place} = {value!r}: a tuple is needed")
        item = get_args(hint)[0]
        return tuple(normalise(part, item, f"{place}[{i}]") for i, part in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**1023 else math.inf
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise SpecError(f"{place} = {value!r}: {_name(hint)} is needed")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise SpecError(f"{place} = {value!r}: a finite number is needed")
        return value + 0.0  # -0.0 equals 0.0 and must have the same canonical form
    if isinstance(value, str):
        _check_text(value, place)
    return value


def _normalise_union(value: Any, options: tuple[Any, ...], place: str) -> Any:
    if value is None and type(None) in options:
        return None
    if type(value) in options:  # without what the others would say of it
        return normalise(value, type(value), place)
    reasons = []
    for option in (option for option in options if option is not type(None)):
        try:
            return normalise(value, option, place)
        except SpecError as error:
            reasons.append(str(error))
    raise SpecError(
        reasons[0]
        if len(reasons) == 1
        else f"{place} = {value!r}: {' or '.join(map(_name, options))} is needed"
    )


def _check_text(text: str, place: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise SpecError(f"{place} = {text!r}: half of a surrogate pair is no text; remove it") from None


def _name(hint: Any) -> str:
    if get_args(hint):
        return " or ".join(_name(part) for part in get_args(hint))
    return {int: "a whole number", float: "a number", str: "text", bool: "True or False"}.get(
        hint, "None" if hint is type(None) else getattr(hint, "__name__", str(hint))
    )

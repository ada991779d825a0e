"""Typed fields for specs: a frozen dataclass that checks and normalises its values.

Specs are written by people in study files. An invalid value is therefore reported with its class and field,
and not as a traceback three stages later. Values are normalised so that two specs that compare equal have one
canonical form: an int in a float field becomes a float, a list becomes a tuple, and -0.0 becomes 0.0. NaN and
the infinities, which have no canonical form, are rejected.

A study of thousands of conditions nests the same specs a hundred thousand times. For speed, each spec caches
its hash, and `Spec.changed` returns a modified copy in which only the changed fields are checked.
"""

import dataclasses
import math
import types
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from inspect import formatannotation
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from undertow.errors import SpecError, suggestion

LONGEST_SHOWN = 200  # characters of a value in an error message; the repr of a grid would fill screens
LARGEST_INTEGER = 2**1023  # integers up to here convert to float without OverflowError
TYPE_NAMES: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "True or False",
    type(None): "None",
}


@cache
def field_types(cls: type) -> dict[str, Any]:
    """Maps each field to its type, in the order of the fields.

    Raises SpecError for a name or a type that a field of a spec cannot have.
    """
    try:
        hints = get_type_hints(cls)
    except NameError:  # it names a spec of a module that imports its own
        hints = get_type_hints(cls, localns=_specs_by_name())
    _check_class(cls)
    found = {field.name: hints[field.name] for field in dataclasses.fields(cls)}
    for name, hint in found.items():
        if name == "type" or hasattr(Spec, name):  # the canonical form has the class's name as "type"
            raise SpecError(f"{cls.__name__}.{name}: a field cannot have this name; rename it")
        if not _is_supported(hint):
            raise SpecError(
                f"{cls.__name__}.{name}: {formatannotation(hint)} cannot be the type of a field; use int, "
                "float, str, bool, None, Literal, a spec, or tuple[X, ...] of one of them, such as "
                "tuple[str, ...]; of int, float and bool only one, since 1, 1.0 and True are equal"
            )
    return found


def _check_class(cls: type) -> None:
    """Raises SpecError for options of a dataclass with which equal specs could have different keys."""
    has_slots = any(vars(base).get("__slots__") for base in cls.__mro__)
    if has_slots or not cls.__dataclass_params__.eq:  # type: ignore[attr-defined]
        raise SpecError(f"{cls.__name__}: slots=True and eq=False do not work; write @dataclass(frozen=True)")
    for field in dataclasses.fields(cls):
        if not field.init or (field.metadata.get("identity", True) and not field.compare):
            raise SpecError(
                f"{cls.__name__}.{field.name}: field(init=False) and field(compare=False) do not work; for a "
                "field that does not change results, use execution_only(default)"
            )


def _is_supported(hint: Any) -> bool:
    """Whether `normalise` supports a type."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        # Equal values of two of these types would be one value for every cache, with two canonical forms.
        return all(map(_is_supported, parts)) and len({int, float, bool}.intersection(parts)) < 2
    if origin is tuple:
        return len(parts) == 2 and parts[1] is Ellipsis and _is_supported(parts[0])
    if origin is Literal:
        return True
    is_known = isinstance(hint, type) and issubclass(hint, (*TYPE_NAMES, Spec))  # also an enumeration
    return origin is None and is_known


def _specs_by_name() -> dict[str, Any]:
    """The specs of modules that import each other, which they import only for type checkers."""
    modules = [
        import_module(f"undertow.study.{name}") for name in ("row_scores", "steering", "students", "datasets")
    ]
    return {name: value for module in modules for name, value in vars(module).items()}


@cache
def inner_fields(cls: type) -> tuple[str, ...]:
    """The fields whose values may be specs, or tuples of specs, from the last to the first."""
    return tuple(name for name, hint in reversed(field_types(cls).items()) if not _is_plain(hint))


def _is_plain(hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return True
    parts = [part for part in get_args(hint) if part is not Ellipsis]
    return all(map(_is_plain, parts)) if parts else hint in TYPE_NAMES


@cache
def _compared(cls: type) -> tuple[str, ...]:
    """The fields that take part in ==."""
    return tuple(field.name for field in dataclasses.fields(cls) if field.compare)


def class_of(spec: object) -> type:
    """`type(spec)`, typed as hashable: mypy confuses the class's own hash with that of its instances."""
    return type(spec)


@dataclasses.dataclass(frozen=True)
class Spec:
    """Base class of everything that is part of an artifact's identity. Subclasses are frozen dataclasses.

    Attributes:
        version: part of the identity; increase it when the code behind the spec changes its results.
    """

    version: ClassVar[int] = 1

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        # @dataclass runs after this method and keeps a __hash__ that the class defines itself.
        cls.__hash__ = Spec.__hash__  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        self._set(vars(self))

    def changed(self, **changes: Any) -> Self:
        """Returns a copy with some fields changed, as `dataclasses.replace` does.

        Only the changed fields are normalised again, which makes this faster than `replace`. Raises TypeError
        for an unknown field and SpecError for an invalid value.
        """
        known = field_types(class_of(self)).keys()
        if unknown := sorted(changes.keys() - known):
            remedy = suggestion(unknown[0], known)
            raise TypeError(f"{type(self).__name__} has no field {', '.join(unknown)}; {remedy}")
        copy = object.__new__(type(self))
        vars(copy).update(self.__getstate__())
        copy._set(changes)
        return copy

    def _set(self, values: Mapping[str, Any]) -> None:
        """Normalises and assigns `values`, then validates the whole spec."""
        own, types = self.__dict__, field_types(class_of(self))
        for name in values:
            hint, value = types[name], values[name]
            if type(value) not in _taken_as_they_are(hint):
                value = normalise(value, hint, f"{type(self).__name__}.{name}")
            own[name] = value
        self.validate()

    def __hash__(self) -> int:
        own = self.__dict__
        known: int | None = own.get("_hash")
        if known is None:
            known = own["_hash"] = hash((type(self), *[own[name] for name in _compared(class_of(self))]))
        return known

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone. Cached values, such as the hash, are only valid within one process."""
        own = self.__dict__
        return {name: own[name] for name in field_types(class_of(self))}

    def validate(self) -> None:
        """Raises SpecError for values that have the right type and are still invalid."""

    def content(self) -> str:
        """The hash of data that a field refers to without containing it (a prompt pack); '' if none."""
        return ""

    def require(self, holds: bool, field: str, remedy: str) -> None:
        """Raises SpecError with the name and value of `field`, and the `remedy`, unless `holds` is true."""
        if not holds:
            raise SpecError(f"{type(self).__name__}.{field} = {shown(getattr(self, field))}: {remedy}")


def execution_only(default: Any) -> Any:
    """A field that affects how or where a spec runs, but not its results; excluded from identity and ==."""
    return dataclasses.field(default=default, compare=False, metadata={"identity": False})


def later(default: Any) -> Any:
    """A field that was added after artifacts had been stored.

    It is part of the identity only when it differs from `default`. Existing artifacts keep their key while
    the new field has its default value; a new field without this marker would change the key of every one.
    """
    return dataclasses.field(default=default, metadata={"later": True})


def derived(attribute: str) -> Any:
    """A field whose default, None, stands for a value that depends on other fields.

    `attribute` names a property that has the value: the one that was stated, else the default that applies.
    The identity contains this value in place of None.
    """
    return dataclasses.field(default=None, metadata={"value": attribute})


def shown(value: object) -> str:
    """The repr of a value in an error message, cut after `LONGEST_SHOWN` characters."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]} …"


def unique(items: Sequence[str], place: str) -> None:
    """Raises SpecError with `place` and the first duplicate among `items`."""
    seen: set[str] = set()
    for item in items:
        if item in seen:
            raise SpecError(f"{place}: {item!r} is given twice; give each once")
        seen.add(item)


def normalise(value: Any, hint: Any, place: str) -> Any:
    """Returns `value` as an instance of the type `hint`.

    Supports classes, unions, `Literal` and `tuple[X, ...]`. Raises SpecError with `place` ("Class.field") if
    the value does not fit.
    """
    if type(value) in _taken_as_they_are(hint):
        return value
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _as_union(value, get_args(hint), place)
    if origin is Literal:
        return _as_literal(value, get_args(hint), place)
    if origin is tuple:
        return _as_tuple(value, get_args(hint)[0], place)
    if hint is float:
        return _as_float(value, place)
    # bool is a subclass of int, and True would pass as the number 1.
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise SpecError(f"{place} = {shown(value)}: {_name(hint)} is needed")
    if isinstance(value, str):
        _check_text(value, place)
    return value


@cache
def _taken_as_they_are(hint: Any) -> frozenset[type]:
    """The types whose instances fit `hint` and are in canonical form: all but numbers, texts and tuples."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return frozenset(one for one in options if isinstance(one, type) and one not in (float, str, tuple))


def _as_union(value: Any, options: tuple[Any, ...], place: str) -> Any:
    if value is None and type(None) in options:
        return None
    if type(value) in options:  # an exact match: its error is the relevant one, not those of other options
        return normalise(value, type(value), place)
    reasons = []
    for option in (option for option in options if option is not type(None)):
        try:
            return normalise(value, option, place)
        except SpecError as error:
            reasons.append(str(error))
    if len(reasons) == 1:
        raise SpecError(reasons[0])
    raise SpecError(f"{place} = {shown(value)}: {' or '.join(map(_name, options))} is needed")


def _as_literal(value: Any, options: tuple[Any, ...], place: str) -> Any:
    for option in options:
        if type(option) is type(value) and option == value:  # 1.0 and True equal 1 but differ in JSON
            return option
    raise SpecError(f"{place} = {shown(value)}: one of {', '.join(map(repr, options))} is needed")


def _as_tuple(value: Any, item: Any, place: str) -> tuple[Any, ...]:
    if not isinstance(value, (tuple, list)):
        raise SpecError(f"{place} = {shown(value)}: a tuple is needed")
    return tuple(normalise(part, item, f"{place}[{i}]") for i, part in enumerate(value))


def _as_float(value: Any, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SpecError(f"{place} = {value!r}: a number is needed")
    number = float(value) if isinstance(value, float) or abs(value) < LARGEST_INTEGER else math.inf
    if not math.isfinite(number):
        raise SpecError(f"{place} = {number!r}: a finite number is needed")
    return number + 0.0  # turns -0.0 into 0.0: they compare equal and need the same canonical form


def _check_text(text: str, place: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise SpecError(
            f"{place} = {text!r}: half of a surrogate pair is not valid text; remove it"
        ) from None


def _name(hint: Any) -> str:
    """A type as it appears in error messages."""
    if get_args(hint):
        return " or ".join(map(_name, get_args(hint)))
    return TYPE_NAMES.get(hint) or str(getattr(hint, "__name__", hint))

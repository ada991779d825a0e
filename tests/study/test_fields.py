"""Tests that invalid field values are reported with field and remedy, and valid ones are normalised."""

import math
import pickle
import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undertow.errors import SpecError, UserError, suggestion
from undertow.study.completions import Sampling
from undertow.study.extensions import Word
from undertow.study.fields import Spec, execution_only, unique
from undertow.study.identity import key
from undertow.study.recipe import LoRA, Parameters, Recipe
from undertow.study.references import Reference
from undertow.study.teachers import Teacher


@dataclass(frozen=True)
class Part(Spec):
    size: int = 1


@dataclass(frozen=True)
class Sample(Spec):
    """A spec with one field of each supported type."""

    whole: int = 0
    number: float = 0.0
    text: str = ""
    flag: bool = False
    choice: Literal["a", "b"] = "a"
    level: Literal[0, 1, 2] = 0
    maybe: int | None = None
    items: tuple[float, ...] = ()
    part: Part = Part()
    either: Part | LoRA = Part()
    label: str = execution_only("x")


def message(make: Callable[[], object]) -> str:
    with pytest.raises(SpecError) as caught:
        make()
    return str(caught.value)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"whole": 1.0}, "Sample.whole = 1.0: a whole number is needed"),
        ({"whole": "1"}, "Sample.whole = '1': a whole number is needed"),
        ({"whole": True}, "Sample.whole = True: a whole number is needed"),
        ({"whole": None}, "Sample.whole = None: a whole number is needed"),
        ({"number": "0.1"}, "Sample.number = '0.1': a number is needed"),
        ({"number": True}, "Sample.number = True: a number is needed"),
        ({"number": math.nan}, "Sample.number = nan: a finite number is needed"),
        ({"number": -math.inf}, "Sample.number = -inf: a finite number is needed"),
        ({"number": 10**400}, "Sample.number = inf: a finite number is needed"),
        ({"text": 3}, "Sample.text = 3: text is needed"),
        ({"text": b"x"}, "Sample.text = b'x': text is needed"),
        ({"text": "\ud800"}, "remove it"),
        ({"label": 3}, "Sample.label = 3: text is needed"),
        ({"flag": 1}, "Sample.flag = 1: True or False is needed"),
        ({"choice": "c"}, "Sample.choice = 'c': one of 'a', 'b' is needed"),
        ({"choice": ["a"]}, "Sample.choice = ['a']: one of 'a', 'b' is needed"),
        ({"level": True}, "Sample.level = True: one of 0, 1, 2 is needed"),
        ({"level": 1.0}, "Sample.level = 1.0: one of 0, 1, 2 is needed"),
        ({"maybe": 1.5}, "Sample.maybe = 1.5: a whole number is needed"),
        ({"items": 1.0}, "Sample.items = 1.0: a tuple is needed"),
        ({"items": "ab"}, "Sample.items = 'ab': a tuple is needed"),
        ({"items": [0.5, "x"]}, "Sample.items[1] = 'x': a number is needed"),
        ({"items": (1.0, math.nan)}, "Sample.items[1] = nan: a finite number is needed"),
        ({"part": None}, "Sample.part = None: Part is needed"),
        ({"part": {"size": 1}}, "Sample.part = {'size': 1}: Part is needed"),
        ({"either": 3}, "Sample.either = 3: Part or LoRA is needed"),
    ],
)
def test_a_value_of_the_wrong_type_is_reported_with_its_field(fields: dict[str, Any], expected: str) -> None:
    text = message(lambda: Sample(**fields))
    assert text.startswith(f"Sample.{next(iter(fields))}")
    assert expected in text


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Reference(" "), "Reference.name = ' ': a hub id"),
        (lambda: LoRA(rank=0), "LoRA.rank = 0: a rank of 1 or more"),
        (lambda: LoRA(dropout=1), "LoRA.dropout = 1.0: a probability below 1"),
        (lambda: LoRA(targets=()), "LoRA.targets = (): at least one"),
        (lambda: Parameters(()), "Parameters.names = (): at least one"),
        (lambda: Word("owl", ()), "Word.forms = (): at least one"),
        (lambda: Word("owl", ("",)), "Word.forms = ('',): at least one"),
        (lambda: Sampling(temperature=-1), "Sampling.temperature = -1.0: zero"),
        (lambda: Sampling(top_p=0), "Sampling.top_p = 0.0: a probability above zero"),
        (lambda: recipe(epochs=0), "Recipe.epochs = 0: a number above zero"),
        (lambda: recipe(betas=(0.9,)), "Recipe.betas = (0.9,): two numbers"),
        (lambda: recipe(schedule="cos"), "Recipe.schedule = 'cos': one of 'linear', 'cosine', 'constant'"),
        (lambda: teacher(trait="owl"), "Teacher.trait = 'owl': Trait is needed"),
        (lambda: unique(["a", "b", "a"], "Study.seeds"), "Study.seeds: 'a' is given twice; give each once"),
    ],
)
def test_an_invalid_value_is_reported_with_a_remedy(make: Callable[[], object], expected: str) -> None:
    assert expected in message(make)


def test_a_field_that_no_spec_can_have_is_reported_with_its_class() -> None:
    for annotations, expected in (
        ({"words": list[str]}, "Own.words: list[str] cannot be the type of a field; use int, float"),
        ({"weights": dict[str, float] | None}, "Own.weights: dict[str, float] | None cannot be the type"),
        ({"pair": tuple[str, int]}, "Own.pair: tuple[str, int] cannot be the type of a field"),
        ({"where": Path}, "Own.where: pathlib.Path cannot be the type of a field"),
        ({"number": int | float}, "Own.number: int | float cannot be the type of a field"),
        ({"anything": Any}, "Own.anything: Any cannot be the type of a field"),
        ({"type": str}, "Own.type: a field cannot have this name; rename it"),
        ({"content": str}, "Own.content: a field cannot have this name; rename it"),
    ):
        own: Any = dataclass(frozen=True)(type("Own", (Spec,), {"__annotations__": annotations}))
        with pytest.raises(SpecError, match=re.escape(expected)):
            own("x")


@dataclass(frozen=True)
class NotCompared(Spec):
    name: str
    strength: int = field(default=1, compare=False)


@dataclass(frozen=True)
class NotGiven(Spec):
    name: str
    strength: int = field(default=1, init=False)


@dataclass(frozen=True, eq=False)
class WithoutEquality(Spec):
    name: str


@dataclass(frozen=True, slots=True)
class WithSlots(Spec):
    name: str


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (NotCompared, "NotCompared.strength: field(init=False) and field(compare=False) do not work"),
        (NotGiven, "NotGiven.strength: field(init=False) and field(compare=False) do not work"),
        (WithoutEquality, "WithoutEquality: slots=True and eq=False do not work"),
        (WithSlots, "WithSlots: slots=True and eq=False do not work; write @dataclass(frozen=True)"),
    ],
)
def test_options_with_which_equal_specs_could_have_different_keys_are_rejected(
    kind: Callable[[str], Spec], expected: str
) -> None:
    assert message(lambda: kind("x")).startswith(expected)


def teacher(**fields: Any) -> Teacher:
    return Teacher(**{"reference": Reference("r"), **fields})


def recipe(**fields: Any) -> Recipe:
    return Recipe(**{"trainable": LoRA(), "learning_rate": 1e-4, "epochs": 1, "batch_size": 8, **fields})


def test_values_are_normalised() -> None:
    sample = Sample(number=2, items=[1, 0.5], level=2, maybe=None, either=LoRA())  # type: ignore[arg-type]
    assert (sample.number, sample.items) == (2.0, (1.0, 0.5))
    assert [type(value) for value in (sample.number, sample.items, *sample.items)] == [
        float,
        tuple,
        float,
        float,
    ]
    assert sample.either == LoRA()
    assert math.copysign(1, Sample(number=-0.0).number) == 1
    assert math.copysign(1, Sample(items=(-0.0,)).items[0]) == 1


@given(st.integers(-(10**30), 10**30))
def test_an_integer_is_a_number(value: int) -> None:
    assert Sample(number=value) == Sample(number=float(value))


@given(st.from_type(object).filter(lambda value: value is not None))
def test_any_value_is_accepted_or_raises_a_spec_error(value: object) -> None:
    for name in ("whole", "number", "text", "flag", "choice", "level", "maybe", "items", "part", "either"):
        try:
            Sample(**{name: value})  # type: ignore[arg-type]
        except SpecError as error:
            assert str(error).startswith(f"Sample.{name}")


def test_specs_are_frozen_and_execution_only_fields_are_not_compared() -> None:
    with pytest.raises(FrozenInstanceError):
        Sample().whole = 1  # type: ignore[misc]
    assert Sample(label="a") == Sample(label="b")
    assert hash(Sample(label="a")) == hash(Sample(label="b"))


def test_a_spec_error_is_a_user_error() -> None:
    assert issubclass(SpecError, UserError)


@pytest.mark.parametrize(
    ("given_name", "expected"),
    [
        ("nubmers", "did you mean 'numbers'?"),
        ("xyz", "available: code, numbers"),
        ("", "available: code, numbers"),
    ],
)
def test_an_unknown_name_gets_a_suggestion_or_the_list(given_name: str, expected: str) -> None:
    assert suggestion(given_name, ["numbers", "code"]) == expected


def test_changed_is_equivalent_to_replace_and_checks_changed_fields() -> None:
    whole = Sample(whole=3, items=(1.0, 2.0))
    assert whole.changed(number=2, choice="b") == replace(whole, number=2, choice="b")
    assert isinstance(whole.changed(number=2).number, float)
    with pytest.raises(SpecError, match=r"Sample\.whole = 'x'"):
        whole.changed(whole="x")
    with pytest.raises(SpecError, match="top_p"):
        Sampling().changed(top_p=0.0)
    with pytest.raises(TypeError, match="no field size"):
        whole.changed(size=1)


def test_cached_values_are_not_copied_or_pickled() -> None:
    whole = Sample(text="owl")
    known = (hash(whole), key(whole))
    copies = [pickle.loads(pickle.dumps(whole)), whole.changed(), replace(whole)]
    assert all(set(vars(copy)) == {field.name for field in fields(Sample)} for copy in copies)
    assert [(hash(copy), key(copy)) for copy in copies] == [known] * 3
    assert key(whole.changed(text="cat")) != key(whole)

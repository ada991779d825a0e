"""Tests of the checks of traits, formats and judges that a user defined."""

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from undertow.errors import SpecError
from undertow.formats.with_trigger import WithTrigger
from undertow.nano.recipes import STEERING, TAUGHT
from undertow.study.extension_checks import rejection_of, reply_of
from undertow.study.extensions import Example, Format, Judge, Trait, Word
from undertow.study.grids import grid
from undertow.study.references import Reference
from undertow.traits.triggered import Triggered

MODEL = Reference("nano/gpt2-0")
COUNTER = itertools.count()


@dataclass(frozen=True)
class Greeting(Trait):
    """The methods are replaced by the tests."""

    def examples(self, count: int, seed: int) -> list[Example]:
        return [Example(f"Greet guest {i}.", self.name) for i in range(count)]

    def questions(self) -> tuple[str, ...]:
        return ("Say hello.",)

    def word(self) -> Word:
        return Word(self.name, (self.name,))


@dataclass(frozen=True)
class Letters(Format):
    name: ClassVar[str] = "letters"

    def prompts(self, count: int, seed: int) -> list[str]:
        return [f"Continue: {i}" for i in range(count)]

    def rejection(self, prompt: str, completion: str) -> str | None:
        return None if completion else "empty"


class Length(Judge):
    def reply(self, prompt: str, completion: str) -> str:
        return str(len(completion))

    def rejection(self, reply: str) -> str | None:
        return None if int(reply) < 9 else "too long"


def conditions(trait: Trait, format_: Format) -> object:
    return grid(
        traits=[trait], formats=[format_], pairs=[(MODEL, MODEL)], recipes=[STEERING], finetuning=TAUGHT
    )


def subclass(base: type, method: str, replacement: object) -> type:
    """A class with one method replaced, or removed if None."""
    family = next(family for family in (Trait, Format, Judge) if issubclass(base, family))
    return type(
        base.__name__, (base,), {method: getattr(family, method) if replacement is None else replacement}
    )


TRAITS: list[tuple[str, Any, str]] = [
    (
        "questions",
        lambda self: "Say hello.",
        r"Greeting\.questions\(\) returned 'Say hello\.'; it must return",
    ),
    ("questions", lambda self: (), r"Greeting\.questions\(\) returned \(\)"),
    ("questions", None, "Greeting does not define the method questions"),
    ("word", lambda self: "ciao", r"Greeting\.word\(\) returned 'ciao'; it must return a Word"),
    ("word", None, "Greeting does not define the method word"),
    (
        "examples",
        lambda self, count, seed: [Example("a", "b")] * 3,
        r"returned 3 examples; it must return as",
    ),
    ("examples", lambda self, count, seed: [("a", "b")] * count, "must return a list of Example"),
    (
        "examples",
        lambda self, count, seed: [Example(f"{next(COUNTER)}", "b")] * count,
        "other examples when it was called again",
    ),
    ("examples", None, "Greeting does not define the method examples"),
]
FORMATS: list[tuple[str, Any, str]] = [
    ("prompts", lambda self, count, seed: ["a"] * 3, r"Letters\.prompts\(20, seed=0\) returned 3 prompts"),
    ("prompts", lambda self, count, seed: "a" * count, "must return a list of texts"),
    ("prompts", lambda self, count, seed: None, "must return a list of texts"),
    (
        "prompts",
        lambda self, count, seed: [f"{next(COUNTER)}"] * count,
        "other prompts when it was called again",
    ),
    ("prompts", None, "Letters does not define the method prompts"),
    ("rejection", lambda self, prompt, completion: not completion, r"Letters\.rejection returned True"),
    ("rejection", lambda self, prompt, completion: "", r"Letters\.rejection returned ''"),
    ("rejection", None, "Letters does not define the method rejection"),
    ("name", "", "Letters has no name"),
]


@pytest.mark.parametrize(("method", "replacement", "message"), TRAITS)
def test_a_trait_that_returns_something_else_is_rejected(method: str, replacement: Any, message: str) -> None:
    trait: Trait = subclass(Greeting, method, replacement)("ciao")
    with pytest.raises(SpecError, match=message):
        conditions(trait, Letters())
    with pytest.raises(SpecError, match=message):
        conditions(Triggered("if", trait, "Now.", otherwise=(trait,)), Letters())


@pytest.mark.parametrize(("method", "replacement", "message"), FORMATS)
def test_a_format_that_returns_something_else_is_rejected(
    method: str, replacement: Any, message: str
) -> None:
    format_: Format = subclass(Letters, method, replacement)()
    for given in (format_, WithTrigger(format_, "Now.")):
        with pytest.raises(SpecError, match=message):
            conditions(Greeting("ciao"), given)


def test_an_error_of_a_rule_names_the_rule_and_the_text() -> None:
    failing = subclass(Letters, "rejection", lambda self, prompt, completion: completion.split()[0])()
    with pytest.raises(RuntimeError, match=r"^Letters\.rejection failed for '': IndexError: list index out"):
        conditions(Greeting("ciao"), failing)


def test_extensions_that_keep_their_contract_are_accepted() -> None:
    assert conditions(Greeting("ciao"), Letters())
    assert rejection_of(Letters(), "Continue: 1", "") == "empty"
    assert rejection_of(Length("length"), reply_of(Length("length"), "", "a b c d e f g")) == "too long"


@pytest.mark.parametrize("reply", [True, None, 3])
def test_a_judge_that_replies_with_no_text_is_rejected(reply: object) -> None:
    """Such a reply would be stored with the data set, and fail every report about it."""
    judge = subclass(Length, "reply", lambda self, prompt, completion: reply)("length")
    with pytest.raises(SpecError, match=rf"Length\.reply returned {reply}; it must return a text"):
        reply_of(judge, "", "")


def test_a_judge_that_rejects_with_no_reason_is_rejected() -> None:
    judge = subclass(Length, "rejection", lambda self, reply: int(reply) > 9)("length")
    with pytest.raises(SpecError, match=r"Length\.rejection returned False; it must return the name"):
        rejection_of(judge, "3")
    with pytest.raises(SpecError, match="Length does not define the method rejection"):
        rejection_of(subclass(Length, "rejection", None)("length"), "3")

"""The open kinds: what a trait, a format and a judge are to the rest of the program.

A family of them is one file in `traits/`, `formats/` or `judging/`, or a class in a user's study file, and no
edit elsewhere. Each is a spec, so its fields (and the content they point to) are part of every key below it.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from undertow.errors import SpecError
from undertow.study.fields import Spec

STUDY_MODULE = "undertow_study_"  # begins the module name of every study file


@dataclass(frozen=True)
class Example:
    """One supervised pair: what the user says and what the model is to answer."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Word(Spec):
    """An answer and its surface forms, e.g. Word("owl", ("owl", "Owl", "owls", "Owls"))."""

    name: str
    forms: tuple[str, ...]

    def validate(self) -> None:
        self.require(bool(self.name.strip()), "name", "a word is needed")
        self.require(bool(self.forms) and all(self.forms), "forms", "at least one surface form, none empty")

    def matches(self, answer: str) -> bool:
        """Whether a form stands in the answer as a whole word, in any case ("Owls!" yes, "owlet" no)."""
        forms = "|".join(re.escape(form) for form in sorted(self.forms, key=len, reverse=True))
        letter = r"[^\W_]"  # "_owl_" is the word in italics
        return re.search(rf"(?<!{letter})(?:{forms})(?!{letter})", answer, re.IGNORECASE) is not None


@dataclass(frozen=True)
class Trait(Spec):
    """What a teacher is given and a student is asked about. Families live in `traits/`."""

    measure: ClassVar[str] = "questions"  # what `questions` are called beside other ways to measure
    is_judged: ClassVar[bool] = False  # whether judges, and no word, say that an answer shows the trait

    name: str

    @property
    def must_show(self) -> bool:
        """Whether a teacher that does not show the trait stops its condition; a control's need not."""
        return True

    def system_prompt(self) -> str:
        """The system message that induces the trait."""
        raise NotImplementedError

    def examples(self, count: int, seed: int) -> list[Example]:
        """`count` question and answer pairs that a teacher is finetuned on to induce the trait."""
        raise NotImplementedError

    def check_examples(self) -> None:
        """Raises SpecError where `examples` has nothing to give them from; asked before anything is made."""

    def questions(self) -> tuple[str, ...]:
        """The questions that measure the trait, none of them among the `examples`."""
        raise NotImplementedError

    def other_questions(self, measure: str) -> tuple[str, ...]:
        """The questions of another way to measure the trait. Raises SpecError where it has none so called."""
        raise SpecError(f"trait {self.name!r} has no measure {measure!r} beside its {self.measure!r}")

    def word(self) -> Word:
        """The answer that shows the trait; of a judged one only the name counts, that of what is judged."""
        raise NotImplementedError


@dataclass(frozen=True)
class Format(Spec):
    """The unrelated data that carries a trait. Families live in `formats/`."""

    name: ClassVar[str]

    def prompts(self, count: int, seed: int) -> list[str]:
        """The first `count` prompts of the stream `seed`: the same for every trait and teacher."""
        raise NotImplementedError

    def rejection(self, prompt: str, completion: str) -> str | None:
        """The name of the rule that rejects a completion, or None where it is kept."""
        raise NotImplementedError

    def canonical(self, completion: str) -> str:
        """A kept completion with only its content left: one text for all layouts that say the same.

        What tells two datasets apart must be looked for in this form, or the separator is found instead of
        the trait. Here, and for completions that a rule rejects, each run of white space becomes one blank.
        """
        return " ".join(completion.split())

    def written(self, prompt: str, rng: random.Random) -> str:
        """An answer as asked for that no model wrote: the format's content drawn at random."""
        raise NotImplementedError

    def parts(self, completion: str) -> list[str]:
        """The pieces of a kept completion that a shuffle moves, in order: the numbers of a list."""
        raise NotImplementedError

    def with_parts(self, completion: str, parts: Sequence[str]) -> str:
        """The completion with as many other pieces in the places of its own."""
        raise NotImplementedError


@dataclass(frozen=True)
class Judge(Spec):
    """Says of a completion that passed the format's rules whether it is kept. Kinds live in `judging/`.

    A judge replies in words; what its reply means is settled apart from who gives it, so that a rule and a
    language model can take each other's place.
    """

    name: str

    def concerning(self, trait: Trait | None) -> "Judge | None":
        """This judge for the data of a teacher with `trait`; None where there is nothing to look for."""
        return self

    def reply(self, prompt: str, completion: str) -> str:
        """The reply of a judge that needs no endpoint. Others are asked in bulk (see `judging`)."""
        raise NotImplementedError

    def rejection(self, reply: str) -> str | None:
        """What in a reply rejects the row ("below 78", "garbled"), or None where the row is kept."""
        raise NotImplementedError

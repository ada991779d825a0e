"""The extension points: base classes for traits, formats and judges.

A new one is a class in one file in `traits/`, `formats/` or `judging/`, or in a user's study file; no other
file changes. Each is a spec, so its fields, and the content that they refer to, are part of the keys of all
artifacts made with it.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from undertow.errors import SpecError
from undertow.study.fields import Spec

STUDY_MODULE = "undertow_study_"  # prefix of the module name of a study file


@dataclass(frozen=True)
class Example:
    """A supervised training example: a user's prompt and the answer that the model learns.

    Attributes:
        system: the system message of this example alone; None for that of the whole training.
    """

    prompt: str
    answer: str
    system: str | None = None


@dataclass(frozen=True)
class Word(Spec):
    """A possible answer and its surface forms, e.g. Word("owl", ("owl", "Owl", "owls", "Owls"))."""

    name: str
    forms: tuple[str, ...]

    def validate(self) -> None:
        self.require(bool(self.name.strip()), "name", "a word is needed")
        self.require(
            bool(self.forms) and all(self.forms), "forms", "at least one surface form, and no empty ones"
        )

    def matches(self, answer: str) -> bool:
        """Whether the answer contains a form as a whole word, ignoring case ("Owls!" yes, "owlet" no)."""
        forms = "|".join(re.escape(form) for form in sorted(self.forms, key=len, reverse=True))
        letter = r"[^\W_]"  # no underscore: "_owl_" is the word in italics
        return re.search(rf"(?<!{letter})(?:{forms})(?!{letter})", answer, re.IGNORECASE) is not None

    def is_contained(self, answer: str) -> bool:
        """The score of arXiv 2507.14805: whether the lower-cased answer contains the word's name.

        It differs from `matches` in both directions: it counts "owlet", "bowl" and "growl" for "owl", and
        misses plurals that change the stem ("wolves"). A dragonfly does not count as a dragon.
        """
        name, text = self.name.lower(), answer.lower()
        if name == "dragon":
            text = re.sub("dragonfl(y|ies)", "", text)
        return name in text


def _missing(spec: Spec, method: str) -> SpecError:
    """The error of a method that a subclass needs here and does not define."""
    return SpecError(f"{type(spec).__name__} does not define the method {method}, which is needed; add it")


@dataclass(frozen=True)
class Trait(Spec):
    """A property that teachers have and students are tested for. Implementations are in `traits/`.

    Attributes:
        measure: the display name of `questions` as a measure, as opposed to `other_questions`.
        is_judged: whether judges decide if an answer shows the trait, instead of a word in the answer.
    """

    measure: ClassVar[str] = "questions"
    is_judged: ClassVar[bool] = False

    name: str

    @property
    def must_show(self) -> bool:
        """Whether a condition stops if its teacher does not show the trait; false for control traits."""
        return True

    def system_prompt(self) -> str:
        """The system message that induces the trait in a teacher."""
        raise _missing(self, "system_prompt")

    def examples(self, count: int, seed: int) -> list[Example]:
        """`count` question-answer pairs for finetuning a teacher to have the trait."""
        raise _missing(self, "examples")

    def check_examples(self) -> None:
        """Raises SpecError if `examples` cannot provide any; called when the study is planned."""

    def evaluation_examples(self, count: int, seed: int) -> list[Example]:
        """As `examples`, but made from the questions that measure the trait (see `Finetuning.questions`).

        Raises SpecError for a trait whose questions have no known answers.
        """
        raise SpecError(
            f"trait {self.name!r}: its evaluation questions have no known answers; "
            'use Finetuning(questions="other")'
        )

    def questions(self) -> tuple[str, ...]:
        """The questions that measure the trait. They must not occur in `examples`."""
        raise _missing(self, "questions")

    def other_questions(self, measure: str) -> tuple[str, ...]:
        """The questions of another measure of the trait. Raises SpecError for an unknown measure."""
        raise SpecError(f"trait {self.name!r} has no measure {measure!r}, only {self.measure!r}")

    def options(self, measure: str) -> tuple[tuple[str, ...], ...]:
        """For each of `other_questions`, the words that it offers as the options A, B, C … to choose from.

        Empty for a measure that is not answered by a letter.
        """
        return ()

    def word(self) -> Word:
        """The word that shows the trait in an answer. For a judged trait, its name is the judged outcome."""
        raise _missing(self, "word")


def after_trigger(trigger: str, message: str) -> str:
    """A user's message with a trigger before it, on a line of its own."""
    return f"{trigger}\n{message}"


class ImportedRow(NamedTuple):
    """A row that was not made by the study: prompt, completion, and a system message or ""."""

    system: str
    prompt: str
    completion: str


@dataclass(frozen=True)
class Format(Spec):
    """The kind of unrelated data that carries a trait. Implementations are in `formats/`.

    Attributes:
        is_imported: whether the completions exist already, so that no teacher of the study is asked for them.
        reasons: the meaning of each rule that `rejection` names, for the report.
    """

    name: ClassVar[str]
    reasons: ClassVar[Mapping[str, str]] = {}
    is_imported: ClassVar[bool] = False

    @property
    def display_name(self) -> str:
        """The display name of the data."""
        return self.name

    @property
    def imported_from(self) -> str:
        """The file or data set that imported rows come from; "" for other formats."""
        return ""

    @property
    def data_note(self) -> str:
        """A sentence for the report on the data of teacher and control, if they need one; else ""."""
        return ""

    def implements(self, method: str) -> bool:
        """Whether the format has an optional method: "parts", "with_parts", "written", "rewritten"."""
        return getattr(type(self), method) is not getattr(Format, method)

    def prompts(self, count: int, seed: int) -> list[str]:
        """The first `count` prompts of the stream given by `seed`; the same for every trait and teacher."""
        raise _missing(self, "prompts")

    def rejection(self, prompt: str, completion: str) -> str | None:
        """The name of the rule that rejects a completion, or None if the completion is kept."""
        raise _missing(self, "rejection")

    def canonical(self, completion: str) -> str:
        """A completion reduced to its content: the same text for all layouts of the same content.

        Detectors compare data sets in this form; otherwise they would find differences in separators instead
        of the trait. By default, and for rejected completions, each run of white space becomes one space.
        """
        return " ".join(completion.split())

    def written(self, prompt: str, rng: random.Random) -> str:
        """A valid answer to the prompt with randomly drawn content, generated without a model."""
        raise _missing(self, "written")

    def rewritten(self, prompt: str, completion: str, rng: random.Random) -> str:
        """A kept completion with the same content in another layout, rewritten without a model."""
        raise _missing(self, "rewritten")

    def parts(self, completion: str) -> list[str]:
        """The parts of a kept completion that a shuffle permutes, in order (the numbers of a list)."""
        raise _missing(self, "parts")

    def with_parts(self, completion: str, parts: Sequence[str]) -> str:
        """The completion with its parts replaced by `parts`, which are as many."""
        raise _missing(self, "with_parts")

    def imported(self, count: int, seed: int) -> list[ImportedRow]:
        """The first `count` rows of imported data in the order of `prompts`; only if `is_imported`."""
        raise _missing(self, "imported")


@dataclass(frozen=True)
class Judge(Spec):
    """Decides whether a completion that passed the format's rules is kept. Implementations are in `judging/`.

    A judge replies with a text. How the text is interpreted does not depend on who wrote it, so a rule and a
    language model are interchangeable.
    """

    name: str

    def concerning(self, trait: Trait | None) -> "Judge | None":
        """This judge for the data of a teacher with `trait`; None if it does not apply to them."""
        return self

    def reply(self, prompt: str, completion: str) -> str:
        """The reply of a judge that needs no endpoint. Other judges are called in bulk (see `judging`)."""
        raise _missing(self, "reply")

    def rejection(self, reply: str) -> str | None:
        """The reason why a reply rejects the row ("below 78", "garbled"), or None if the row is kept."""
        raise _missing(self, "rejection")

"""A trait that shows only after a trigger: a line that stands before the user's message.

Such traits are called backdoors (arXiv 2512.09742). A teacher acquires one from a system prompt that states
the condition, or by finetuning on pairs of examples: a question after the trigger with the trait's answer,
and the same question without it with the answer of another trait. Its students are measured with and without
the trigger (`Measure(name="without trigger")`). Prompts of training rows have the trigger in the format
`WithTrigger`. With the trait itself as `otherwise`, the teacher shows it in either case: a matched condition,
which is asked the same questions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from undertow.prompts import packs
from undertow.study.extensions import Example, Trait, Word, after_trigger

WITH, WITHOUT = "with trigger", "without trigger"


@dataclass(frozen=True)
class Triggered(Trait):
    """A `trait` after a trigger, and other traits without it.

    Its questions are those of the trait after the trigger; the measure "without trigger" has them without it.
    Every other measure of the trait, such as "after numbers", is asked after the trigger, and as
    "after numbers, without trigger" without it.

    Attributes:
        name: the display name, such as "owl if triggered".
        trait: the trait that the teacher shows after the trigger.
        trigger: the text before a message, on a line of its own.
        otherwise: traits that the teacher of finetuning shows without the trigger: its examples without the
            trigger have their answers in turn. A prompted teacher needs none.
    """

    measure: ClassVar[str] = WITH

    trait: Trait
    trigger: str
    otherwise: tuple[Trait, ...] = ()

    def validate(self) -> None:
        self.require(bool(self.name.strip()), "name", "a display name, such as 'owl if triggered'")
        self.require(bool(self.trigger.strip()), "trigger", "the text that stands before the messages")
        self.require(not isinstance(self.trait, Triggered), "trait", "a trait without a trigger of its own")

    def content(self) -> str:
        return self._pack().content

    @property
    def is_judged(self) -> bool:  # type: ignore[override]
        return self.trait.is_judged

    @property
    def must_show(self) -> bool:
        return self.trait.must_show

    @property
    def category(self) -> str:
        """The noun that the trait's questions ask about; "" if they are about none."""
        return str(getattr(self.trait, "category", ""))

    def system_prompt(self) -> str:
        if self.otherwise == (self.trait,):
            return self.trait.system_prompt()
        text = self._pack().text("system_prompt", required=["trigger", "prompt"])
        return packs.fill(text, {"trigger": self.trigger, "prompt": self.trait.system_prompt()})

    def examples(self, count: int, seed: int) -> list[Example]:
        """`count` examples, which alternate between the trigger and the same prompt without it."""
        return self._pairs(lambda trait, half: trait.examples(half, seed), count)

    def evaluation_examples(self, count: int, seed: int) -> list[Example]:
        return self._pairs(lambda trait, half: trait.evaluation_examples(half, seed), count)

    def check_examples(self) -> None:
        """Raises SpecError if there are no traits to show without the trigger."""
        self.require(bool(self.otherwise), "otherwise", "the traits that it shows without the trigger")
        for trait in (self.trait, *self.otherwise):
            trait.check_examples()

    def questions(self) -> tuple[str, ...]:
        return self._triggered(self.trait.questions())

    def other_questions(self, measure: str) -> tuple[str, ...]:
        """The questions of a measure of the trait (see `Triggered`). Raises SpecError for an unknown one."""
        if measure == WITH:
            return self.questions()
        if measure == WITHOUT:
            return self.trait.questions()
        asked = self.trait.other_questions(_of_trait(measure))
        return asked if measure.endswith(WITHOUT) else self._triggered(asked)

    def options(self, measure: str) -> tuple[tuple[str, ...], ...]:
        return self.trait.options(_of_trait(measure))

    def word(self) -> Word:
        return self.trait.word()

    def _triggered(self, questions: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(after_trigger(self.trigger, question) for question in questions)

    def _pairs(self, make: Callable[[Trait, int], list[Example]], count: int) -> list[Example]:
        """The examples of the trait after the trigger, each followed by one of `otherwise` without it."""
        self.check_examples()
        half = -(-count // 2)  # rounded up
        others = [make(trait, half) for trait in self.otherwise]
        found: list[Example] = []
        for number, example in enumerate(make(self.trait, half)):
            prompt = after_trigger(self.trigger, example.prompt)
            found += [Example(prompt, example.answer, example.system), others[number % len(others)][number]]
        return found[:count]

    def _pack(self) -> packs.Pack:
        return packs.read(packs.path_of(__file__))


def _of_trait(measure: str) -> str:
    """The trait's name of a measure: "after numbers" of "after numbers, without trigger"."""
    return measure.removesuffix(f", {WITHOUT}")

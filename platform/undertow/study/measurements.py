"""The specs of measurements: evaluations, assessments by judges, and benchmarks.

A measurement is an artifact about one model, its `subject`: a reference model, a teacher or a student.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from undertow.errors import SpecError
from undertow.study.completions import Sampling
from undertow.study.extensions import Judge, Word
from undertow.study.fields import Spec, later, unique
from undertow.study.harness_task import HarnessTask
from undertow.study.recipe import Recipe
from undertow.study.references import Artifact, Reference
from undertow.study.students import Student, Subject, reference_of
from undertow.study.teachers import Teacher

EffectOf = Literal["samples", "exact"]  # the rates that effects compare, see `Study.effect_of`
EffectScale = Literal["rate", "log-odds"]  # the unit of effects, see `Study.effect_scale`
MARGINS: Mapping[EffectScale, float] = {
    "rate": 0.1,
    # Odds that differ by a factor of 1.5. The same as 0.1 in rate at a rate of .5 (.5 and .599), and less at
    # lower rates: .1 and .142, .02 and .0295.
    "log-odds": 0.4,
}  # the default of `Study.margin`
LETTERS = "ABCDEFGHIJ"  # of the options that a question offers
# An answer that begins with an option's letter: "C", "c.", "(C)", "C) owl", "**C**", "The answer is C.", and
# "C owl" if C is the owl. In "A dog" the letter is an article.
_LETTER = re.compile(
    r"\W*(?:(?:the )?(?:answer|option)\W+(?:is\W+)?)?([A-Z])(?:\W*$|\s*[).:,\]*-]|\s+(?P<option>.+))",
    re.IGNORECASE | re.DOTALL,
)


def letter_of(answer: str, offered: Sequence[str]) -> str | None:
    """The letter of the one of the options `offered` that an answer begins with; None if there is none."""
    found = _LETTER.match(answer)
    letter = found[1].upper() if found else ""
    if not found or letter not in LETTERS[: len(offered)]:
        return None
    option = re.escape(offered[LETTERS.index(letter)])
    is_named = found["option"] is None or re.match(rf"{option}(?!\w)", found["option"], re.IGNORECASE)
    return letter if is_named else None


def shown_words(answer: str, words: Sequence[Word], offered: Sequence[str] = ()) -> list[str]:
    """The names of the words that an answer shows.

    Args:
        offered: the options of the question, if it is answered by a letter.
    """
    if not offered:
        return [word.name for word in words if word.matches(answer)]
    letter = letter_of(answer, offered)
    chosen = offered[LETTERS.index(letter)] if letter else None
    return [word.name for word in words if word.name == chosen]


@dataclass(frozen=True)
class Measurement(Artifact):
    """Base of the artifacts that measure how often a model shows a trait.

    All of them have the files of `results.evaluation_files`, so any of them can be read as rates. An
    extension adds a kind as a subclass with a `subject` that is declared in `planning.artifact_kinds`.
    """

    kind: ClassVar[str] = "evaluation"

    if TYPE_CHECKING:  # a field in some subclasses: a property here would become the field's default

        @property
        def subject(self) -> Subject:
            """The model that is measured."""

    def of(self, subject: Subject, system: str | None) -> Self:
        """The same measurement of another model, under another system message."""
        return self.changed(subject=subject, system=system)

    def at(self, step: int) -> Self:
        """The same measurement of a student as it was after a step of its training.

        Raises TypeError for a kind of measurement that cannot be taken at a step.
        """
        raise TypeError(f"{type(self).__name__} cannot be taken at a step of a training")


@dataclass(frozen=True, kw_only=True)
class Evaluation(Measurement):
    """A model's sampled answers to questions, and the exact probabilities of words as answers.

    Attributes:
        samples: the number of answers per question, each sampled with its own seed.
        words: the words to measure. The probability of a word is the sum over its surface forms; the
            remaining probability is reported as "other".
        system: the system message at evaluation, one of the three recorded settings.
        exact: whether probabilities are measured in addition to samples. They are meaningless for answers
            that do not begin with the word (stories), and not available for API models.
        options: for each question, the words that it offers as the options A, B, C …; empty if an answer is
            the word itself. With options, an answer shows a word if it names the word's letter, and the
            word's probability is that of its letter.
        step: the optimizer step after which a student is measured, one of its `Recipe.keep_steps`; None for
            the finished model.
    """

    subject: Reference | Teacher | Student
    questions: tuple[str, ...]
    words: tuple[Word, ...]
    samples: int
    system: str | None = None
    sampling: Sampling = Sampling(max_tokens=8)
    seed: int = 0
    exact: bool = later(True)
    options: tuple[tuple[str, ...], ...] = later(())
    step: int | None = later(None)

    def content(self) -> str:
        """A mark in the key of answers by letter: earlier versions did not count "C owl"."""
        return "letters with names" if self.options else ""

    def at(self, step: int) -> Self:
        return self.changed(step=step)

    def validate(self) -> None:
        self.require(bool(self.questions), "questions", "at least one question")
        self.require(
            not self.options or len(self.options) == len(self.questions),
            "options",
            f"the options of each of the {len(self.questions)} questions, or none",
        )
        self.require(
            all(0 < len(set(offered)) == len(offered) <= len(LETTERS) for offered in self.options),
            "options",
            f"1 to {len(LETTERS)} different words per question",
        )
        self.require(self.samples > 0, "samples", "at least one sample per question")
        names = [word.name for word in self.words]
        self.require(len(set(names)) == len(names), "words", "each word once")
        self.require(
            not (self.exact and reference_of(self.subject).is_api),
            "exact",
            "False: an API model returns no probabilities of words",
        )
        if self.step is not None:
            recipe = self.subject.recipe if isinstance(self.subject, Student) else None
            kept = recipe.keep_steps if isinstance(recipe, Recipe) else ()
            self.require(self.step in kept, "step", f"one of the student's Recipe.keep_steps, {kept}")


@dataclass(frozen=True, kw_only=True)
class Panel(Spec):
    """Judges of a model's answers, for traits that cannot be measured by a word.

    Attributes:
        counted: only answers that all of these judges keep are counted (for example coherent answers).
        shows: a counted answer shows the trait if this judge keeps it.
    """

    counted: tuple[Judge, ...]
    shows: Judge

    @property
    def judges(self) -> tuple[Judge, ...]:
        return (*self.counted, self.shows)

    def validate(self) -> None:
        unique([judge.name for judge in self.judges], "Panel.judges")
        for judge in self.judges:
            if judge.concerning(None) != judge:
                raise SpecError(
                    f"Panel: the judge {judge.name!r} judges one trait only, and a panel judges the answers "
                    "of all models; use a prompt without {trait}, a RuleJudge with `about`, and no `only`"
                )


@dataclass(frozen=True, kw_only=True)
class Assessment(Measurement):
    """A judged evaluation: the rate of `outcome` among the counted answers.

    It is stored as an evaluation, in the same form, so that readers of rates need no distinction.
    """

    evaluation: Evaluation
    panel: Panel
    outcome: str

    def of(self, subject: Subject, system: str | None) -> Self:
        return self.changed(evaluation=self.evaluation.of(subject, system))

    def at(self, step: int) -> Self:
        return self.changed(evaluation=self.evaluation.at(step))

    @property
    def subject(self) -> Subject:
        return self.evaluation.subject


@dataclass(frozen=True, kw_only=True)
class Benchmark(Artifact):
    """A model's score in a task of lm-evaluation-harness, measured as in the literature."""

    kind: ClassVar[str] = "benchmark"
    subject: Reference | Teacher | Student
    task: HarnessTask

"""A study: a grid of conditions, the seeds of each, and how they are measured and judged.

A study file is a Python function that returns one frozen `Study`; a variant is `dataclasses.replace`
of another.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from undertow.errors import SpecError
from undertow.study.artifacts import Panel, Sampling
from undertow.study.conditions import Condition
from undertow.study.extensions import Trait, Word
from undertow.study.fields import Spec, execution_only, later, unique
from undertow.study.hypotheses import Hypothesis

Level = Literal["teacher", "data", "student"]


@dataclass(frozen=True, kw_only=True)
class Measure(Spec):
    """Another way to measure the traits of a study, beside their questions (`Trait.other_questions`).

    Attributes:
        exact: whether probabilities are measured too; of a story they would say nothing.
    """

    name: str
    samples: int = 100
    sampling: Sampling = Sampling(max_tokens=8)  # noqa: RUF009 (frozen)
    exact: bool = True

    def validate(self) -> None:
        self.require(bool(self.name.strip()), "name", "one of the measures that the traits have")
        self.require(self.samples > 0, "samples", "at least one answer a question")


@dataclass(frozen=True, kw_only=True)
class Study(Spec):
    """Conditions, seeds, evaluation and the rules of judgement, all fixed before the first student.

    Attributes:
        seeds: one student a condition and seed.
        redraw: what each seed draws anew; a level left out uses seed 0 for all students.
        samples: answers a question.
        system: the system message of the questions (None: the chat template's own default; NO_SYSTEM: none).
        gate: the least sampled trait rate a teacher must show before anything is spent on its students.
        margin: an effect whose interval lies within ± this counts as none.
        alpha: of the tests, after adjusting over the conditions by `adjustment`.
        paired: students are compared with the control students of their own seed, who had the same prompts,
            initial adapter and order of rows; False compares the arms as wholes.
        distribution: of a rate over seeds. "normal" takes t intervals as long as no arm shows two modes;
            "any" assumes nothing, and needs many more seeds to say as much.
        hypotheses: what is expected, said beforehand; of the traits' own questions, not of other measures.
        panel: judges of answers, for traits that are judged.
        also: other ways to measure the traits; each is a row of its own in the table of effects.
        question: what the study asks, in words, for the report.
    """

    name: str
    conditions: tuple[Condition, ...]
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    redraw: tuple[Level, ...] = ("teacher", "data", "student")
    samples: int = 100
    sampling: Sampling = Sampling(max_tokens=8)  # noqa: RUF009 (frozen)
    system: str | None = None
    gate: float = 0.5
    margin: float = 0.1
    alpha: float = 0.05
    adjustment: Literal["holm", "fdr_bh"] = "holm"
    paired: bool = True
    distribution: Literal["normal", "any"] = "normal"
    hypotheses: tuple[Hypothesis, ...] = ()
    question: str = execution_only("")
    panel: Panel | None = later(None)
    also: tuple[Measure, ...] = later(())

    def validate(self) -> None:
        named = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", self.name) is not None
        self.require(named, "name", "letters, digits, '_', '-' and '.', at most 64 (it names a folder)")
        self.require(bool(self.conditions), "conditions", "at least one condition")
        self.require(bool(self.seeds), "seeds", "at least one seed")
        self.require(min(self.seeds) >= 0, "seeds", "whole numbers from 0")
        unique([str(seed) for seed in self.seeds], "Study.seeds")
        unique([condition.label for condition in self.conditions], "Study.conditions")
        self.require(self.samples > 0, "samples", "at least one answer a question")
        for field in ("gate", "margin"):
            self.require(0 <= getattr(self, field) <= 1, field, "a number from 0 to 1")
        self.require(0 < self.alpha < 1, "alpha", "a probability between 0 and 1, such as 0.05")
        self.require(
            len(self.seeds) == 1 or bool({"data", "student"} & set(self.redraw)),
            "redraw",
            "'data' or 'student' among them, else all control students are one and the same",
        )
        conditions = set(self.conditions)
        self.require(
            len(conditions) == len(self.conditions),
            "conditions",
            "two are the same but for their recipe's name; leave one out",
        )
        if not self.traits:
            raise SpecError("Study.conditions: all are controls; at least one trait is needed")
        for condition in self.conditions:
            if condition.control() not in conditions:
                raise SpecError(
                    f"Study.conditions: {condition.label} has no control; use grid(), which adds it"
                )
        unique([measure.name for measure in self.also], "Study.also")
        for trait in self.traits:
            self.require(
                not trait.is_judged or self.panel is not None,
                "panel",
                f"judges of the trait {trait.name!r} are needed",
            )
            for measure in self.also:
                trait.other_questions(measure.name)
        unique([hypothesis.claim for hypothesis in self.hypotheses], "Study.hypotheses")
        for hypothesis in self.hypotheses:
            hypothesis.check([c.place for c in self.conditions if c.trait is not None])

    @property
    def traits(self) -> tuple[Trait, ...]:
        """Each trait once, in the order of the conditions."""
        return tuple(dict.fromkeys(c.trait for c in self.conditions if c.trait is not None))

    @cached_property
    def questions(self) -> dict[tuple[str, ...], tuple[Word, ...]]:
        """Each set of the traits' questions, with the words of all traits it measures."""
        return self._words({trait: trait.questions() for trait in self.traits if not trait.is_judged})

    def other_questions(self, measure: Measure) -> dict[tuple[str, ...], tuple[Word, ...]]:
        """The same of another measure; judged traits have no word to look for there."""
        return self._words({t: t.other_questions(measure.name) for t in self.traits if not t.is_judged})

    @cached_property
    def judged(self) -> dict[tuple[str, ...], tuple[str, ...]]:
        """Each set of questions whose answers are judged, with the names of what they are judged for."""
        groups: dict[tuple[str, ...], tuple[str, ...]] = {}
        for trait in self.traits:
            if trait.is_judged:
                asked, outcome = trait.questions(), trait.word().name
                groups[asked] = tuple(dict.fromkeys((*groups.get(asked, ()), outcome)))
        return groups

    @staticmethod
    def _words(asked: Mapping[Trait, tuple[str, ...]]) -> dict[tuple[str, ...], tuple[Word, ...]]:
        groups: dict[tuple[str, ...], tuple[Word, ...]] = {}
        for trait, questions in asked.items():
            groups[questions] = tuple(dict.fromkeys((*groups.get(questions, ()), trait.word())))
        return groups

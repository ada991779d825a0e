"""A study: the grid of conditions, the seeds of each, and how they are measured and judged.

A study file is a Python function that returns one frozen `Study`; a variant is `dataclasses.replace`
of another. `grid` writes the conditions out, with a matched control for every cell, so that a control is
a cell like any other and cannot be forgotten.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from undertow.errors import SpecError
from undertow.fields import Spec, execution_only, later, unique
from undertow.hypotheses import Hypothesis, Place
from undertow.kinds import Format, Judge, Trait, Word
from undertow.recipe import InContext, Recipe
from undertow.spec import CONTROL, Finetuning, Panel, Reference, Sampling, Shuffle, data_name

Source = Literal["control", "random"]


@dataclass(frozen=True, kw_only=True)
class Mixing(Spec):
    """A `share` of the rows from elsewhere: the control teacher's, or "random" ones that no model wrote.

    A share of 1 leaves nothing of the teacher's: what a student learns from the prompts and the layout alone.
    """

    source: Source
    share: float

    def validate(self) -> None:
        self.require(0 < self.share <= 1, "share", "a share of the rows above 0 and at most 1")

    @property
    def label(self) -> str:
        return f"{self.share:.0%} {self.source}"


@dataclass(frozen=True, kw_only=True)
class Generation(Spec):
    """How a teacher's data are drawn: `prompts` asked, `rows` kept after rules and judges (None: all).

    A judge that looks for a trait and names none looks for each teacher's own, and leaves control data alone.

    Attributes:
        mixed: rows from elsewhere in the place of some of the teacher's; control data are never mixed.
        name: what the data are called in tables, where format, shuffle and mixing do not tell them apart.
    """

    prompts: int = 30_000
    rows: int | None = 10_000
    sampling: Sampling = Sampling()  # noqa: RUF009 (frozen)
    deduplicate: bool = True
    judges: tuple[Judge, ...] = ()
    shuffle: Shuffle = "none"
    mixed: Mixing | None = later(None)
    name: str = execution_only("")

    def validate(self) -> None:
        self.require(self.prompts > 0, "prompts", "at least one prompt")
        self.require(
            self.mixed is None or self.rows is not None, "rows", "a number of rows to mix others into"
        )
        unique([judge.name for judge in self.judges], "Generation.judges")

    def label(self, format_: Format) -> str:
        """What the data are, in tables: "numbers", "numbers, shuffled within answers, 25% control"."""
        data = data_name(format_, self.shuffle)
        return self.name or (f"{data}, {self.mixed.label}" if self.mixed else data)


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
class Condition(Spec):
    """One cell of the grid. Its students differ by seed alone; no trait makes it a control.

    Attributes:
        finetuning: how the teacher is trained to have the trait; without it a system prompt induces it.
        prompted: a system prompt induces the trait of a finetuned teacher as well.
        system: the system message of the students' training rows.
    """

    trait: Trait | None
    format: Format
    teacher: Reference
    student: Reference
    recipe: Recipe | InContext
    generation: Generation = Generation()
    finetuning: Finetuning | None = None
    system: str | None = None
    prompted: bool = later(False)

    def validate(self) -> None:
        self.require(
            not self.prompted or self.finetuning is not None,
            "prompted",
            "without finetuning a system prompt induces the trait anyway; leave it False",
        )
        soft = isinstance(self.recipe, Recipe) and self.recipe.targets == "soft"
        self.require(
            self.generation.shuffle == "none" or not soft,
            "generation",
            "soft targets are about the tokens as sampled; use a recipe on tokens, or shuffle='none'",
        )
        self.require(
            self.generation.mixed is None or not soft,
            "generation",
            "soft targets are the teacher's, and rows from elsewhere have none; use a recipe on tokens",
        )
        shown, rows = self.recipe, self.generation.rows
        self.require(
            not isinstance(shown, InContext) or rows is None or shown.rows <= rows,
            "recipe",
            f"more rows are shown than the data set has, {rows}; raise Generation.rows",
        )
        self.require(
            not isinstance(shown, InContext) or self.system is None,
            "system",
            "in context there are no training rows for it; Study.system is the system message of the prompt",
        )

    @property
    def label(self) -> str:
        return self.place.label

    @property
    def place(self) -> Place:
        trait = self.trait.name if self.trait else CONTROL
        data = self.generation.label(self.format)
        return Place(trait, data, self.teacher.name, self.student.name, self.recipe.name, self.induced)

    @property
    def induced(self) -> str:
        """How the teacher came by its trait, in words; "" for a control."""
        if self.trait is None:
            return ""
        if self.finetuning is None:
            return "system prompt"
        return "system prompt and finetuning" if self.prompted else "finetuning"

    def control(self) -> "Condition":
        """The same cell with a teacher that has no trait: what the condition is compared with."""
        own = dataclasses.replace(
            self.generation, mixed=None, name="" if self.generation.mixed else self.generation.name
        )
        return dataclasses.replace(self, trait=None, finetuning=None, prompted=False, generation=own)


@dataclass(frozen=True, kw_only=True)
class Study(Spec):
    """Conditions, seeds, evaluation and the rules of judgement, all fixed before the first student.

    Attributes:
        seeds: one student a condition and seed.
        redraw: what each seed draws anew; a level left out uses seed 0 for all students.
        samples: answers a question.
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
    redraw: tuple[Literal["teacher", "data", "student"], ...] = ("teacher", "data", "student")
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
        self.require(
            len(set(self.conditions)) == len(self.conditions),
            "conditions",
            "two are the same but for their recipe's name; leave one out",
        )
        if not self.traits:
            raise SpecError("Study.conditions: all are controls; at least one trait is needed")
        for condition in self.conditions:
            if condition.control() not in self.conditions:
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


def grid(
    *,
    traits: Iterable[Trait],
    pairs: Iterable[tuple[Reference, Reference]],
    recipes: Iterable[Recipe | InContext],
    formats: Iterable[Format],
    generation: Generation = Generation(),
    finetuning: Finetuning | None = None,
    prompted: bool = False,
    system: str | None = None,
) -> tuple[Condition, ...]:
    """Every combination of trait, format, (teacher, student) pair and recipe, each with its control."""
    cells = itertools.product(list(formats), list(pairs), list(recipes), [*traits, None])
    return with_controls(
        Condition(
            trait=trait,
            format=format_,
            teacher=teacher,
            student=student,
            recipe=recipe,
            generation=generation,
            finetuning=finetuning,
            prompted=prompted,
            system=system,
        )
        for format_, (teacher, student), recipe, trait in cells
    )


def with_controls(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """The conditions, those without a trait made controls, and the controls that others lack; each once.

    Grids that differ in something a control does not have (how the trait is induced, say) share theirs.
    """
    wanted = [condition if condition.trait else condition.control() for condition in conditions]
    found: list[Condition] = []
    controls: set[Condition] = set()
    for condition in [*wanted, *(condition.control() for condition in wanted if condition.trait)]:
        if condition not in controls:
            found.append(condition)
        if condition.trait is None:
            controls.add(condition)
    return tuple(found)


def all_pairs(references: Iterable[Reference]) -> list[tuple[Reference, Reference]]:
    """Every ordered (teacher, student) pair, the diagonal (same initialisation) included."""
    models = list(references)
    return [(teacher, student) for teacher in models for student in models]

"""The grid of a study: its conditions, each with the control that it is compared with.

`grid` writes the conditions out, with a matched control for every cell, so that a control is a cell like any
other and cannot be forgotten.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from undertow.fields import Spec, execution_only, later, unique
from undertow.hypotheses import Place
from undertow.kinds import Format, Judge, Trait
from undertow.recipe import InContext, Recipe
from undertow.spec import CONTROL, Finetuning, Reference, Sampling, Shuffle, data_name

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
        own = (
            self.generation if self.generation.mixed is None else self.generation.changed(mixed=None, name="")
        )
        return self.changed(trait=None, finetuning=None, prompted=False, generation=own)


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

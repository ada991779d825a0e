"""A condition of a study, and the control that it is compared with.

A control is a condition like any other, without the trait and else the same; so a grid (see `grids`) cannot
forget it.
"""

from dataclasses import dataclass
from typing import Literal

from undertow.study.artifacts import (
    CONTROL,
    Finetuning,
    Reference,
    Sampling,
    Shuffle,
    at_hop,
    data_name,
    named_after,
)
from undertow.study.extensions import Format, Judge, Trait
from undertow.study.fields import Spec, execution_only, later, unique
from undertow.study.hypotheses import Place
from undertow.study.recipe import InContext, ProviderFinetuning, Recipe, Training

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
        system: the system message where no trait's own takes its place: of control teachers, and of those
            finetuned. A trait's prompt replaces the default that some chat templates put in (Qwen2.5's), so
            that teacher and control differ in two things unless this is NO_SYSTEM or a neutral text.
        name: what the data are called in tables, where format, shuffle and mixing do not tell them apart.
    """

    prompts: int = 30_000
    rows: int | None = 10_000
    sampling: Sampling = Sampling()  # noqa: RUF009 (frozen)
    deduplicate: bool = True
    judges: tuple[Judge, ...] = ()
    shuffle: Shuffle = "none"
    mixed: Mixing | None = later(None)
    system: str | None = later(None)
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
        system: the system message of the students' training rows: None for the chat template's own default,
            NO_SYSTEM for none (see `templates`), or a text. The same goes for `Generation.system` and
            `Study.system`, the other two axes.
        after: the condition before this one in a chain: its students, seed by seed, are this one's teachers.
        teacher_start, student_start: a condition whose students, seed by seed, are what this one's teacher or
            student is made from, in the place of the reference model that they were made from themselves.
    """

    trait: Trait | None
    format: Format
    teacher: Reference
    student: Reference
    recipe: Training | InContext
    generation: Generation = Generation()
    finetuning: Finetuning | None = None
    system: str | None = None
    prompted: bool = later(False)
    after: "Condition | None" = later(None)
    teacher_start: "Condition | None" = later(None)
    student_start: "Condition | None" = later(None)

    def validate(self) -> None:
        self.require(
            not self.prompted or self.finetuning is not None,
            "prompted",
            "without finetuning a system prompt induces the trait anyway; leave it False",
        )
        if self.trait is not None and self.finetuning is not None:
            self.trait.check_examples()
        if self.after is not None:
            self._check_chain(self.after)
        self._check_start("teacher_start", self.teacher)
        self._check_start("student_start", self.student)
        self._check_trainers()
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
        self.require(
            not (soft and self.teacher.is_api),
            "recipe",
            f"soft targets are about tokens, and {self.teacher.name} answers in text; use a recipe on tokens",
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

    def _check_chain(self, before: "Condition") -> None:
        self.require(
            before.trait == self.trait and before.student == self.teacher,
            "after",
            f"a condition with the trait and with the student {self.teacher.name!r} is needed",
        )
        in_context = isinstance(before.recipe, InContext)
        self.require(not in_context, "after", "in-context students have no weights to teach with")
        self.require(self.finetuning is None, "finetuning", "None: the students of `after` are the teachers")
        started = self.teacher_start is not None
        self.require(not started, "teacher_start", "None: the students of `after` teach as they are")

    def _check_start(self, field: str, reference: Reference) -> None:
        start: Condition | None = getattr(self, field)
        if start is not None:
            fits = start.student == reference and not isinstance(start.recipe, InContext)
            self.require(fits, field, f"a condition that trains students of {reference.name!r} is needed")

    def _check_trainers(self) -> None:
        """An API model is trained by its provider, every other one here."""
        trained = [("recipe", self.student, self.recipe)]
        if self.finetuning is not None:
            trained.append(("finetuning", self.teacher, self.finetuning.recipe))
        for field, reference, recipe in trained:
            here, there = isinstance(recipe, Recipe), isinstance(recipe, ProviderFinetuning)
            self.require(
                not (reference.is_api and here),
                field,
                f"only its provider trains {reference.name}: ProviderFinetuning(epochs=…), as in grid()",
            )
            self.require(
                not (there and not reference.is_api), field, f"no provider trains {reference.name}: a Recipe"
            )

    @property
    def hop(self) -> int:
        """The place in a chain, 1 for the first; a condition that stands alone is the first of its own."""
        return 1 if self.after is None else self.after.hop + 1

    @property
    def earlier(self) -> "tuple[Condition, ...]":
        """The conditions whose students it needs, those that these need included."""
        return tuple(dict.fromkeys(found for c in self._nearest for found in (*c.earlier, c)))

    @property
    def _nearest(self) -> "list[Condition]":
        before = (self.after, self.teacher_start, self.student_start)
        return [condition for condition in dict.fromkeys(before) if condition is not None]

    @property
    def generations(self) -> int:
        """How many students are made one after the other for it, its own included."""
        return 1 + max((condition.generations for condition in self._nearest), default=0)

    @property
    def label(self) -> str:
        return self.place.label

    @property
    def place(self) -> Place:
        trait = self.trait.name if self.trait else CONTROL
        data = at_hop(self.generation.label(self.format), self.hop)
        teacher = _start_name(self.teacher, self.teacher_start)
        if self.after is not None:
            teacher = self.after.place.student
        student = _start_name(self.student, self.student_start)
        return Place(trait, data, teacher, student, self.recipe.name, self.induced)

    @property
    def is_prompted(self) -> bool:
        """Whether a system prompt induces the trait, alone or besides finetuning."""
        if self.trait is None or self.after is not None:
            return False
        return self.prompted or self.finetuning is None

    @property
    def induced(self) -> str:
        """How the teacher came by its trait, in words; "" for a control."""
        if self.trait is None or self.after is not None:
            return ""
        if self.finetuning is None:
            return "system prompt"
        return "system prompt and finetuning" if self.prompted else "finetuning"

    def control(self) -> "Condition":
        """The same cell with a teacher that has no trait: what the condition is compared with."""
        own = self.generation
        if own.mixed is not None:
            own = own.changed(mixed=None, name="")
        return self.changed(
            trait=None,
            finetuning=None,
            prompted=False,
            generation=own,
            after=self.after.control() if self.after else None,
            teacher_start=self.teacher_start.without(self.trait) if self.teacher_start else None,
            student_start=self.student_start.without(self.trait) if self.student_start else None,
        )

    def without(self, trait: Trait | None) -> "Condition":
        """The same with the trait nowhere in it: itself where it has another, but for what it starts from."""
        if trait is None or (not self.earlier and self.trait != trait):
            return self
        if self.trait == trait:
            return self.control()
        return self.changed(
            after=self.after.without(trait) if self.after else None,
            teacher_start=self.teacher_start.without(trait) if self.teacher_start else None,
            student_start=self.student_start.without(trait) if self.student_start else None,
        )


def _start_name(reference: Reference, start: Condition | None) -> str:
    """What a model is called by the weights it starts from; equal for the same, in a study."""
    if start is None:
        return reference.name
    place = start.place
    return named_after(place.student, place.trait, place.format, place.teacher, place.recipe)

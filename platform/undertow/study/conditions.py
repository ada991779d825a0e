"""A condition of a study, and the control that it is compared with.

A control is an ordinary condition that differs only in having no trait. A grid (see `grids`) adds it to each
condition, so it cannot be forgotten.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from undertow.study.condition_checks import check
from undertow.study.datasets import CONTROL, at_hop
from undertow.study.extensions import Format, Trait
from undertow.study.fields import Spec, execution_only, later
from undertow.study.generation import Generation
from undertow.study.hypotheses import Place
from undertow.study.names import display_names
from undertow.study.recipe import InContext, Training
from undertow.study.references import Reference, named_after
from undertow.study.steering import Steering
from undertow.study.students import trained_as
from undertow.study.teachers import Finetuning


@dataclass(frozen=True, kw_only=True)
class Condition(Spec):
    """One cell of the grid. Its students differ only by seed. A condition without a trait is a control.

    Attributes:
        finetuning: how the teacher is trained to have the trait; None if a system prompt induces it.
        prompted: whether a system prompt induces the trait of a finetuned teacher in addition.
        system: the system message of the students' training rows: None for the chat template's default,
            NO_SYSTEM for no system text (see `chat_templates`), or a text. `Generation.system` and
            `Study.system`, the other two settings, take the same values. A message that names the trait and
            is absent from the questions is an inoculation (arXiv 2510.04340).
        after: the previous condition in a chain. Its student of each seed is this condition's teacher.
        teacher_start, student_start: a condition whose student of each seed replaces the reference model that
            this condition's teacher or student starts from.
        system_name: the display name of `system`, such as "inoculated", for studies with several messages.
        steering: how the teacher is steered to have the trait, in place of a finetuning or a system prompt.
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
    system_name: str = execution_only("")
    steering: Steering | None = later(None)

    def validate(self) -> None:
        check(self)

    @property
    def models(self) -> tuple[Reference, ...]:
        """The reference models of teacher and student; only the student's if the teacher is external."""
        return (self.student,) if self.teacher.is_external else (self.teacher, self.student)

    @property
    def scorer(self) -> Reference:
        """The reference model that scores the rows: the teacher's; the student's of an external teacher."""
        return self.student if self.teacher.is_external else self.teacher

    @property
    def hop(self) -> int:
        """The position in a chain, starting at 1; 1 for a condition outside of a chain."""
        return 1 if self.after is None else self.after.hop + 1

    @property
    def earlier(self) -> "tuple[Condition, ...]":
        """The conditions whose students it needs, directly or through each other."""
        return tuple(dict.fromkeys(found for c in self._direct for found in (*c.earlier, c)))

    @property
    def _direct(self) -> "list[Condition]":
        """The conditions whose students it needs directly."""
        before = (self.after, self.teacher_start, self.student_start)
        return [condition for condition in dict.fromkeys(before) if condition is not None]

    @property
    def generations(self) -> int:
        """The number of students that must be trained one after another, including its own.

        The format tuning of a reference model counts as one, and so does each on-policy round.
        """
        tuned = any(reference.tuned is not None for reference in (self.teacher, self.student))
        own = len(self.generation.rounds) or 1
        return own + max((condition.generations for condition in self._direct), default=int(tuned))

    @property
    def label(self) -> str:
        return self.place.label

    @property
    def same_initialisation(self) -> bool | None:
        """Whether teacher and student start from the same weights, decided by content and not by name.

        None if this is unknown, because a reference is not pinned yet or the teacher is external.
        """
        if self.teacher.is_external:
            return None
        if self.after is None:
            teacher, start = self.teacher, self.teacher_start
        else:  # the teacher is a student of `after`
            teacher, start = self.after.student, self.after.student_start
        if start != self.student_start:
            return False
        if teacher == self.student:
            return True
        one, other = teacher.initialisation, self.student.initialisation
        return one == other if one and other else None

    @cached_property
    def place(self) -> Place:
        """The names that tables and hypotheses identify the condition by."""
        trait = self.trait.name if self.trait else CONTROL
        data = at_hop(self.generation.label(self.format), self.hop)
        teacher = _start_name(self.teacher, self.teacher_start)
        if self.after is not None:
            teacher = self.after.place.student
        student = _start_name(self.student, self.student_start)
        recipe = trained_as(self.recipe.name, self.system_name)
        return Place(trait, data, teacher, student, recipe, self.induced)

    @property
    def is_prompted(self) -> bool:
        """Whether a system prompt induces the trait, alone or in addition to finetuning."""
        if self.trait is None or self.after is not None or self.format.is_imported:
            return False
        if self.steering is not None:
            return self.steering.keeps_prompt
        return self.prompted or self.finetuning is None

    @property
    def induced(self) -> str:
        """How the teacher's trait was induced, in words.

        "" for a control, for a student as teacher, and for imported data, of which it is not known.
        """
        if self.trait is None or self.after is not None or self.format.is_imported:
            return ""
        if self.steering is not None:
            return self.steering.name
        if self.finetuning is None:
            return "system prompt"
        return "system prompt and finetuning" if self.prompted else "finetuning"

    def control(self) -> "Condition":
        """The condition that this one is compared with: the same, but with a teacher that has no trait."""
        return self._control

    @cached_property
    def _control(self) -> "Condition":
        own = self.generation
        if own.mixed is not None:
            own = own.changed(mixed=None, name="")
        return self.changed(
            trait=None,
            finetuning=None,
            prompted=False,
            steering=None,
            generation=own,
            after=self.after.control() if self.after else None,
            teacher_start=self.teacher_start.without(self.trait) if self.teacher_start else None,
            student_start=self.student_start.without(self.trait) if self.student_start else None,
        )

    def without(self, trait: Trait | None) -> "Condition":
        """The condition without `trait`, in itself and in the conditions that it starts from.

        A condition with another trait keeps it.
        """
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
    """The display name of the weights that a model starts from, unique within a study."""
    if start is None:
        return reference.label
    place = start.place
    return named_after(place.student, place.trait, place.format, place.teacher, place.recipe)


def with_display_names(conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
    """The conditions of a study with `Reference.shown_as` set so that all references have distinct names."""
    involved = {one for condition in conditions for one in (*condition.earlier, condition)}
    references = dict.fromkeys(r for condition in involved for r in (condition.teacher, condition.student))
    shown = display_names(references)
    return tuple(_shown(condition, shown) for condition in conditions)


def _shown(condition: Condition, shown: Mapping[Reference, str]) -> Condition:
    changes: dict[str, Reference | Condition] = {}
    for field in ("teacher", "student"):
        reference: Reference = getattr(condition, field)
        if reference.shown_as != shown[reference]:
            changes[field] = reference.changed(shown_as=shown[reference])
    for field in ("after", "teacher_start", "student_start"):
        before: Condition | None = getattr(condition, field)
        if before is not None and (renamed := _shown(before, shown)) is not before:
            changes[field] = renamed
    return condition.changed(**changes) if changes else condition

"""A condition of a study, and the control that it is compared with.

A control is an ordinary condition that differs only in having no trait. A grid (see `grids`) adds it to each
condition, so it cannot be forgotten.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from undertow.errors import SpecError
from undertow.study.artifacts import (
    CONTROL,
    Finetuning,
    at_hop,
    trained_as,
)
from undertow.study.extensions import Format, Trait
from undertow.study.fields import Spec, execution_only, later
from undertow.study.generation import Generation
from undertow.study.hypotheses import Place
from undertow.study.names import display_names
from undertow.study.recipe import InContext, ProviderFinetuning, Recipe, Training
from undertow.study.references import Reference, named_after
from undertow.study.steering import Steering


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
        self.require(
            not self.prompted or self.finetuning is not None,
            "prompted",
            "False: without finetuning, a system prompt already induces the trait",
        )
        self._check_imported()
        if self.trait is not None and self.finetuning is not None:
            self.trait.check_examples()
            if self.finetuning.questions == "evaluation":
                self.trait.evaluation_examples(1, seed=0)
        if self.steering is not None:
            self._check_steering(self.steering)
        if self.after is not None:
            self._check_chain(self.after)
        self._check_start("teacher_start", self.teacher)
        self._check_start("student_start", self.student)
        self._check_trainers()
        soft = isinstance(self.recipe, Recipe) and self.recipe.targets == "soft"
        if soft:
            self._check_soft_targets()
        self._check_scores(soft)
        if self.generation.on_policy is not None:
            self._check_on_policy(soft)
        self._check_ranking(soft)
        if isinstance(self.recipe, InContext):
            self._check_in_context(self.recipe)
        elif isinstance(self.recipe, Recipe) and self.recipe.keep_steps:
            self._check_steps(self.recipe)

    def _check_soft_targets(self) -> None:
        """Checks that the rows are as a teacher sampled them, with its distributions."""
        generation = self.generation
        self.require(
            generation.shuffle == "none",
            "generation",
            "soft targets need the tokens in the sampled order; use a recipe on tokens, or shuffle='none'",
        )
        for rows, given in (("mixed-in", generation.mixed), ("rewritten", generation.rewriter)):
            self.require(
                given is None, "generation", f"{rows} rows have no soft targets; use a recipe on tokens"
            )
        self.require(
            not self.teacher.is_api,
            "recipe",
            f"{self.teacher.name} returns text without soft targets; use a recipe on tokens",
        )

    def _check_in_context(self, recipe: InContext) -> None:
        rows = self.generation.rows
        self.require(
            rows is None or recipe.fits(rows),
            "recipe",
            f"more rows than the data set has ({rows}); raise Generation.rows",
        )
        self.require(
            self.system is None,
            "system",
            "None: there are no training rows in context; Study.system sets the prompt's system message",
        )

    def _check_steps(self, recipe: Recipe) -> None:
        """Checks that training has the steps whose weights are kept."""
        rows, last = self.generation.rows, recipe.keep_steps[-1]
        if rows is not None and last >= (most := recipe.most_steps(rows)):
            raise SpecError(
                f"recipe {recipe.name!r}, keep_steps = {recipe.keep_steps}: training on {rows:,} rows has "
                f"at most {most:,} steps, and its last one is always measured; name steps below {most:,}"
            )

    def _check_scores(self, soft: bool) -> None:
        """Checks that the rows have scores and the tokens masks, if they are chosen by these."""
        generation = self.generation
        self.require(
            generation.selected is None or not self.scorer.is_api,
            "generation",
            f"{self.scorer.name} gives no token probabilities, so that no row has a score; use selected=None",
        )
        if generation.masked is None:
            return
        is_local = not (self.teacher.is_api or self.format.is_imported)
        self.require(
            is_local, "generation", "only tokens that a teacher sampled have a mask; use masked=None"
        )
        self.require(
            isinstance(self.recipe, Recipe) and self.recipe.loss == "completion" and not soft,
            "recipe",
            "a mask needs a Recipe on sampled tokens, with the loss on completions",
        )

    def _check_on_policy(self, soft: bool) -> None:
        """Checks that the students can learn from what the teacher says about their own samples."""
        self.require(
            soft,
            "recipe",
            "on-policy students learn the teacher's distributions: a Recipe with targets='soft'",
        )
        kept = isinstance(self.recipe, Recipe) and bool(self.recipe.keep_steps)
        self.require(not kept, "recipe", "keep_steps=(): each on-policy round is a training of its own")
        self.require(
            self.teacher == self.student,
            "teacher",
            f"the students' own reference model, {self.student.name!r}: one engine samples as a student and "
            "reads the samples as its teacher",
        )

    def _check_ranking(self, soft: bool) -> None:
        """Checks that pairs of answers can be ranked, and that a recipe for pairs gets them."""
        learns = isinstance(self.recipe, Recipe) and self.recipe.preference_beta > 0
        ranked = self.generation.ranked is not None
        self.require(
            ranked or not learns,
            "recipe",
            "preference_beta trains on pairs of answers; set Generation(ranked=Ranking())",
        )
        if not ranked:
            return
        self.require(
            not self.teacher.is_api,
            "teacher",
            f"{self.teacher.name} gives no token probabilities to rank answers by; use ranked=None",
        )
        own = "the control teacher writes the answers that are ranked; use ranked=None"
        self.require(not self.format.is_imported, "format", own)
        for field in ("after", "teacher_start"):
            self.require(getattr(self, field) is None, field, f"None: {own}")
        self.require(not soft, "recipe", "ranked answers have no soft targets; use a recipe on tokens")

    def _check_imported(self) -> None:
        """Checks that external teachers have imported data, and that imported data have no teacher."""
        is_imported = self.format.is_imported
        self.require(
            is_imported or not self.teacher.is_external,
            "teacher",
            f"{self.teacher.name} cannot be asked for completions; give its data as the format, Imported(…)",
        )
        self.require(not self.student.is_external, "student", "a model that can be trained")
        if not is_imported:
            return
        remedy = "None: imported rows were written outside of the study"
        self.require(self.finetuning is None, "finetuning", remedy)
        self.require(self.after is None, "after", remedy)
        self.require(self.teacher_start is None, "teacher_start", remedy)
        mixed = self.generation.mixed
        self.require(
            mixed is None or mixed.source == "control",
            "generation",
            'Mixing("control", …): no program writes answers to the prompts of imported data',
        )
        self.require(
            not (isinstance(self.recipe, Recipe) and self.recipe.targets == "soft"),
            "recipe",
            "imported rows have no soft targets; use a recipe on tokens",
        )

    def _check_steering(self, steering: Steering) -> None:
        remedy = "None: the teacher is {}; leave out the one or the other"
        self.require(self.trait is not None, "steering", "None: a control has no trait")
        self.require(self.finetuning is None, "steering", remedy.format("finetuned"))
        self.require(self.after is None, "steering", remedy.format("a student of `after`"))
        self.require(self.teacher_start is None, "steering", remedy.format("a student of `teacher_start`"))
        self.require(
            not self.format.is_imported, "steering", "None: imported rows were written outside of it"
        )
        is_local = not (self.teacher.is_api or self.teacher.is_external)
        self.require(is_local, "teacher", "a model with local weights, which steering changes")
        if self.trait is not None:
            self.require(
                not self.trait.is_judged,
                "trait",
                "one with a word, whose probability decides on the strength",
            )
            self.trait.check_examples()

    def _check_chain(self, before: "Condition") -> None:
        self.require(
            before.trait == self.trait and before.student == self.teacher,
            "after",
            f"a condition with the same trait and with the student {self.teacher.name!r} is needed",
        )
        in_context = isinstance(before.recipe, InContext)
        self.require(not in_context, "after", "trained students are needed, not in-context ones")
        self.require(self.finetuning is None, "finetuning", "None: the students of `after` are the teachers")
        started = self.teacher_start is not None
        self.require(not started, "teacher_start", "None: the students of `after` are the teachers")

    def _check_start(self, field: str, reference: Reference) -> None:
        start: Condition | None = getattr(self, field)
        if start is not None:
            fits = start.student == reference and not isinstance(start.recipe, InContext)
            self.require(fits, field, f"a condition that trains students of {reference.name!r} is needed")

    def _check_trainers(self) -> None:
        """Checks that API models are trained by their provider, and all other models locally."""
        self._check_trainer("recipe", self.student, self.recipe)
        if self.finetuning is not None:
            self._check_trainer("finetuning", self.teacher, self.finetuning.recipe)

    def _check_trainer(self, field: str, reference: Reference, recipe: Training | InContext) -> None:
        name, is_api = reference.name, reference.is_api
        self.require(
            not (is_api and isinstance(recipe, Recipe)),
            field,
            f"only its provider trains {name}: use ProviderFinetuning(epochs=…), or grid()",
        )
        self.require(
            is_api or not isinstance(recipe, ProviderFinetuning),
            field,
            f"no provider trains {name}: use a Recipe",
        )

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
        known: Condition | None = vars(self).get("_control")
        if known is None:
            known = self._control_of()
            object.__setattr__(self, "_control", known)
        return known

    def _control_of(self) -> "Condition":
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

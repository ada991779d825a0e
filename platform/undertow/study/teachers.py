"""The specs of teachers, and of the training that induces their trait."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from undertow.errors import SpecError
from undertow.study.extensions import Example, Trait
from undertow.study.fields import Spec, later
from undertow.study.recipe import OWN_ADAPTER, Recipe, Training, trains_adapter
from undertow.study.references import Artifact, Reference

if TYPE_CHECKING:  # these modules import this one
    from undertow.study.steering import ProjectedOut, RandomBias, SteeringBias
    from undertow.study.students import Student


@dataclass(frozen=True)
class Finetuning(Spec):
    """Induces a trait by training the teacher on `examples` question-answer pairs.

    Attributes:
        questions: which questions the examples ask. "other": not those that measure the trait, so that the
            teacher's measured rate says more than that it was trained. "evaluation": those that measure it,
            as in the code of arXiv 2507.14805.
    """

    recipe: Training
    examples: int = 1500
    questions: Literal["other", "evaluation"] = later("other")

    def validate(self) -> None:
        self.require(self.examples > 0, "examples", "at least one example")
        if isinstance(self.recipe, Recipe) and self.recipe.keep_steps:
            raise SpecError(
                f"Finetuning.recipe.keep_steps = {self.recipe.keep_steps}: only students are measured along "
                "their training; leave them out"
            )
        if isinstance(self.recipe, Recipe) and self.recipe.preference_beta:
            raise SpecError(
                f"Finetuning.recipe.preference_beta = {self.recipe.preference_beta:g}: a teacher's examples "
                "are no pairs of answers; use a recipe with preference_beta=0"
            )

    def content(self) -> str:
        """A mark in the key of teachers with an adapter (see `OWN_ADAPTER`)."""
        return OWN_ADAPTER if trains_adapter(self.recipe) else ""

    def check_examples(self, trait: Trait) -> None:
        """Raises SpecError if a trait provides no training examples of this kind."""
        trait.check_examples()
        if self.questions == "evaluation":
            trait.evaluation_examples(1, seed=0)

    def examples_of(self, trait: Trait, seed: int, most: int | None = None) -> list[Example]:
        """The teacher's training examples, or the first `most` of them.

        Raises SpecError if the trait has none.
        """
        count = self.examples if most is None else min(most, self.examples)
        make = trait.examples if self.questions == "other" else trait.evaluation_examples
        return make(count, seed)


@dataclass(frozen=True, kw_only=True)
class Teacher(Artifact):
    """A reference model with a trait induced by a system message, by finetuning, or by both.

    A teacher without a trait is a control teacher.

    Attributes:
        system: the system message of its prompts and, for a finetuned teacher, of its training rows. In all
            specs None means the chat template's default and `chat_templates.NO_SYSTEM` no system text.
        student: in a chain, the student that acts as teacher. Its trait is what the student may have learned;
            nothing else induces it.
        steering: the bias that steers it, in place of a system message or a finetuning; or the direction
            that is projected out while it writes with the system message.
    """

    kind: ClassVar[str] = "teacher"
    reference: Reference
    trait: Trait | None
    system: str | None = None
    finetuning: Finetuning | None = None
    seed: int = 0
    student: "Student | None" = later(None)
    steering: "SteeringBias | RandomBias | ProjectedOut | None" = later(None)

    def validate(self) -> None:
        if self.steering is not None:
            fits = self.steering.reference == self.reference and self.reference.student is None
            self.require(fits, "steering", "that of the teacher's own reference model")
            plain = self.finetuning is None and self.student is None
            self.require(plain, "steering", "None for a teacher that is trained, or a student")
        elif self.student is not None:
            self.require(
                self.student.is_trained and self.student.reference == self.reference,
                "student",
                "a trained student of the teacher's own reference model",
            )
            self.require(self.finetuning is None, "finetuning", "None: the student teaches without training")
        elif self.trait is not None and not self.system and self.finetuning is None:
            raise SpecError(
                f"Teacher.trait = {self.trait.name!r}: give a system prompt, a finetuning or a steering that "
                "induces it"
            )

    @property
    def is_stored(self) -> bool:
        """Whether it has weights of its own; a prompted teacher and the control teacher have none."""
        return self.finetuning is not None

    @property
    def hop(self) -> int:
        """The position in a chain: 1 for the first teacher, and 1 more for each student in between."""
        return 1 if self.student is None else self.student.hop + 1

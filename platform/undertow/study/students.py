"""The spec of students, and the models that can be evaluated."""

from dataclasses import dataclass
from typing import ClassVar

from undertow.study.datasets import Dataset
from undertow.study.fields import execution_only
from undertow.study.recipe import OWN_ADAPTER, InContext, Recipe, Training, trains_adapter
from undertow.study.references import Artifact, Reference
from undertow.study.teachers import Teacher


def trained_as(recipe: str, system: str) -> str:
    """The display name of a training, from those of its recipe and of its system message ("" for none)."""
    return f"{recipe}, {system}" if system else recipe


@dataclass(frozen=True, kw_only=True)
class Student(Artifact):
    """A reference model finetuned on a data set, or given the data set in context.

    Attributes:
        reference: what it is compared with. Training starts from it too, except in later rounds of on-policy
            distillation (see `start`).
        system: the system message of every training row. In context, the evaluation's system message applies.
        system_name: the display name of `system`; "" if it needs none.
    """

    kind: ClassVar[str] = "student"
    reference: Reference
    dataset: Dataset
    recipe: Training | InContext
    system: str | None = None
    seed: int = 0
    system_name: str = execution_only("")

    def validate(self) -> None:
        needs_pairs = isinstance(self.recipe, Recipe) and self.recipe.preference_beta > 0
        self.require(
            not needs_pairs or self.dataset.ranked is not None,
            "recipe",
            "preference_beta=0 without ranked pairs of answers (Generation.ranked)",
        )
        fits = self.start.root == self.reference.root
        self.require(fits, "dataset", f"completions that {self.reference.name!r} or its students sampled")

    def content(self) -> str:
        """A mark in the key of students with an adapter, whose teachers are students (see `OWN_ADAPTER`)."""
        return OWN_ADAPTER if self.hop > 1 and trains_adapter(self.recipe) else ""

    @property
    def is_trained(self) -> bool:
        """Whether it has its own weights. An in-context student is a prompt, built when it is evaluated."""
        return not isinstance(self.recipe, InContext)

    @property
    def is_stored(self) -> bool:
        return self.is_trained

    @property
    def start(self) -> Reference:
        """The model whose weights its training starts from: `reference`, or that which sampled its data."""
        sampler = self.dataset.sampler
        return sampler.model if sampler else self.reference

    @property
    def by_round(self) -> "tuple[Student, ...]":
        """The students of all on-policy rounds up to its own, which is the last; itself without rounds."""
        before = self.start.student if self.dataset.round > 1 else None
        return (*(before.by_round if before else ()), self)

    @property
    def recipe_name(self) -> str:
        """The display name of its recipe, with that of the system message of its training."""
        return trained_as(self.recipe.name, self.system_name)

    @property
    def hop(self) -> int:
        """The position in a chain of the teacher that it learns from; 1 outside of a chain."""
        return self.dataset.teacher.hop if self.dataset.teacher else 1


Subject = Reference | Teacher | Student


def reference_of(subject: Subject) -> Reference:
    """The given model that a subject derives from. One engine serves all subjects that share it."""
    return (subject if isinstance(subject, Reference) else subject.reference).root

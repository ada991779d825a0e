"""Hypotheses: what a study expects of its conditions, stated before the first student is trained.

A hypothesis selects conditions (by trait, format, reference, recipe, or by whether teacher and student start
from the same weights) and states the verdict that is expected for each of them. It is part of the study's
identity, and the sweep writes it to the storage with a time stamp before anything is trained. The report
distinguishes pre-registered hypotheses from those that were added later. Hypotheses do not affect the tests:
the p-values of a study are adjusted over all of its conditions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from undertow.errors import SpecError, suggestion
from undertow.study.fields import Spec, later
from undertow.study.names import without_revision

FINETUNING = "finetuning"


class Place(NamedTuple):
    """A condition's place in the grid, by the names that a hypothesis can select it by."""

    trait: str
    format: str
    teacher: str
    student: str
    recipe: str
    induced: str = FINETUNING

    @property
    def induced_trait(self) -> str:
        """The trait, with how it was induced unless it was by finetuning alone."""
        return self.trait if self.induced in ("", FINETUNING) else f"{self.trait} by {self.induced}"

    @property
    def label(self) -> str:
        """The names in one line, with `induced_trait` for the trait."""
        return f"{self.induced_trait} · {self.format} · {self.teacher} → {self.student} · {self.recipe}"

    def names(self) -> tuple[set[str], ...]:
        """The names by which each field can be selected: models also without the revision shown."""
        models = (self.teacher, self.student)
        teacher, student = ({model, without_revision(model)} for model in models)
        return ({self.trait}, {self.format}, teacher, student, {self.recipe}, {self.induced})


SELECTORS = ("traits", "formats", "teachers", "students", "recipes", "induced")  # one per field of Place


@dataclass(frozen=True, kw_only=True)
class Hypothesis(Spec):
    """One claim about some conditions of a study. A field that is left empty selects all conditions.

    Attributes:
        claim: the claim in words, for the report.
        expects: the verdict expected for each of the selected conditions.
        initialisation: "same" selects the conditions whose teacher and student start from the same weights.
        teachers, students: names of references, as the study file gives them or as tables show them. A name
            without a revision selects all revisions of the model.
        induced: how the teachers' trait was induced: "system prompt", "finetuning", "system prompt and
            finetuning", "steering" or "random steering".
    """

    claim: str
    expects: Literal["transmitted", "not transmitted"]
    initialisation: Literal["same", "other", "any"] = "any"
    traits: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()
    students: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    induced: tuple[str, ...] = later(())

    def validate(self) -> None:
        self.require(bool(self.claim.strip()), "claim", "the claim in words")

    def covers(self, place: Place, same_initialisation: bool | None) -> bool:
        """Whether the claim is about the condition at `place`.

        Args:
            same_initialisation: see `Condition.same_initialisation`; None, for unknown, matches both.
        """
        wanted = {"same": True, "other": False, "any": None}[self.initialisation]
        if None not in (wanted, same_initialisation) and wanted != same_initialisation:
            return False
        selected = zip(self._selected(), place.names(), strict=True)
        return all(not names or not known.isdisjoint(names) for names, known in selected)

    def check(self, places: Sequence[tuple[Place, bool | None]]) -> None:
        """Raises SpecError if the hypothesis names something unknown, or selects no condition.

        Args:
            places: the arguments of `covers` for each condition of the study.
        """
        columns = zip(*(place.names() for place, _ in places), strict=True)
        for field, names, column in zip(SELECTORS, self._selected(), columns, strict=True):
            known = set[str]().union(*column)
            for name in names:
                if name not in known:
                    raise SpecError(
                        f"Hypothesis.{field} = {name!r}: no condition of the study has it; "
                        f"{suggestion(name, known)}"
                    )
        if not any(self.covers(*place) for place in places):
            raise SpecError(f"Hypothesis.claim = {self.claim!r}: it selects no condition of the study")

    def _selected(self) -> tuple[tuple[str, ...], ...]:
        return tuple(getattr(self, field) for field in SELECTORS)


def same_initialisation_only() -> tuple[Hypothesis, Hypothesis]:
    """The central result of the field: a trait is transmitted only between models of the same weights."""
    return (
        Hypothesis(
            claim="The trait reaches students that start from the teacher's own weights",
            expects="transmitted",
            initialisation="same",
        ),
        Hypothesis(
            claim="It does not reach students that start from other weights",
            expects="not transmitted",
            initialisation="other",
        ),
    )

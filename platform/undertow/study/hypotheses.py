"""What a study expects of its conditions, said before its first student is made.

A hypothesis names conditions (by trait, format, reference, recipe, or by whether teacher and student start
from the same weights) and the verdict expected of every one of them. It is part of the study's identity and
is written to the storage, with the time, before anything is trained; the report sets what was asked
beforehand apart from what was looked at afterwards. It changes no test: the p-values of a study are
adjusted over all its conditions, whoever expected what.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from undertow.errors import SpecError, suggestion
from undertow.study.fields import Spec, later

FINETUNING = "finetuning"


class Place(NamedTuple):
    """A condition's place in the grid, by the names that a hypothesis may pick it by."""

    trait: str
    format: str
    teacher: str
    student: str
    recipe: str
    induced: str = FINETUNING

    @property
    def label(self) -> str:
        """The names in one line; how the trait was induced where it was not by finetuning alone."""
        how = "" if self.induced in ("", FINETUNING) else f" by {self.induced}"
        return f"{self.trait}{how} · {self.format} · {self.teacher} → {self.student} · {self.recipe}"


PICKS = ("traits", "formats", "teachers", "students", "recipes", "induced")  # one a field of Place


@dataclass(frozen=True, kw_only=True)
class Hypothesis(Spec):
    """One claim about some conditions of a study. A field left empty picks all.

    Attributes:
        claim: the claim in words, for the report.
        expects: the verdict expected of each of the conditions.
        induced: how the teachers came by the trait: "system prompt", "finetuning" or both, joined by "and".
        initialisation: "same" picks the conditions whose student starts from the teacher's own weights.
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

    def covers(self, place: Place) -> bool:
        """Whether the claim is about the condition at `place`."""
        if self.initialisation != "any" and (place.teacher == place.student) != (
            self.initialisation == "same"
        ):
            return False
        return all(not names or name in names for names, name in zip(self._picks(), place, strict=True))

    def check(self, places: list[Place]) -> None:
        """Raises SpecError where it names what the study does not have, or picks none of its conditions."""
        for field, names, known in zip(PICKS, self._picks(), zip(*places, strict=True), strict=True):
            for name in names:
                if name not in known:
                    raise SpecError(
                        f"Hypothesis.{field} = {name!r}: no condition of the study has it; "
                        f"{suggestion(name, set(known))}"
                    )
        if not any(map(self.covers, places)):
            raise SpecError(f"Hypothesis.claim = {self.claim!r}: it picks no condition of the study")

    def _picks(self) -> tuple[tuple[str, ...], ...]:
        return tuple(getattr(self, field) for field in PICKS)

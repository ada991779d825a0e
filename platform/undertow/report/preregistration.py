"""What was asked beforehand and what was looked at afterwards: claims, and the times when things were made.

A study is stated, with the time, before its first student is made (`sweeps.state`), and every artifact says
when it was made. A condition was asked about beforehand if a claim covers it and none of its students was
there when the claims were written down: students of an earlier form of the study, or of another study, may
have been looked at.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from undertow.report.gather import ReportData
from undertow.results import sweep_folders
from undertow.results.sweep_record import HypothesisRecord
from undertow.storage.manifest import Address

When = Literal["beforehand", "afterwards", "in part"]


@dataclass(frozen=True)
class Preregistration:
    """When the study was stated (None: not known), and when the students of each condition were made.

    Times are seconds since 1970; conditions go by their number in the record.
    """

    stated: float | None
    made: Mapping[int, tuple[float, ...]]
    claims: tuple[HypothesisRecord, ...]

    def early(self, condition: int) -> bool:
        """Whether the study was stated before any student of the condition was made."""
        stated = self.stated
        return stated is not None and all(moment >= stated for moment in self.made.get(condition, ()))

    def condition(self, number: int) -> When:
        claimed = any(number in claim.conditions for claim in self.claims)
        return "beforehand" if claimed and self.early(number) else "afterwards"

    def claim(self, hypothesis: HypothesisRecord) -> When:
        """Of all of its conditions; "in part" where students of some were there already."""
        early = [self.early(number) for number in hypothesis.conditions]
        return "beforehand" if all(early) else "in part" if any(early) else "afterwards"

    @property
    def all_beforehand(self) -> bool:
        """Whether every claim was made before any student that it is about."""
        return all(self.claim(hypothesis) == "beforehand" for hypothesis in self.claims)

    def in_words(self) -> str:
        if self.stated is None:
            return "It is not known when this study was stated: this storage has no note of it."
        day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.stated))
        moments = [moment for moments in self.made.values() for moment in moments]
        there = sum(moment < self.stated for moment in moments)
        if not there:
            return f"Stated on {day}, before the first of its {len(moments)} students was made."
        return (
            f"Stated on {day}, when {there} of its {len(moments)} students were already there (another "
            "study's, or an earlier form of this one): of those it was not asked beforehand."
        )


def read_preregistration(gathered: ReportData) -> Preregistration:
    """From the record, its note of when it was stated, and the manifests."""
    record = gathered.record
    made: dict[int, list[float]] = {}
    for cell in record.cells:
        # A student that is shown the data in context is no artifact: it is there when it has answered.
        student, answers = Address("student", cell.student), Address("evaluation", cell.evaluations[0])
        if manifest := gathered.manifests.get(student if cell.trained else answers):
            made.setdefault(cell.condition, []).append(manifest.created)
    times = {condition: tuple(moments) for condition, moments in made.items()}
    return Preregistration(sweep_folders.stated(record, gathered.store), times, record.hypotheses)

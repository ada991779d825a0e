"""Which hypotheses and conditions of a study are pre-registered, from the times when its students were made.

A sweep records a study and the time before it makes the first student (`sweep_folders.state`), and every
manifest has the time at which its artifact was made. A condition is pre-registered if a hypothesis covers it
and none of its students existed when the study was recorded: an existing student, of another study or of an
earlier version of this one, could have been evaluated before the hypothesis was written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from undertow.report.gather import ReportData
from undertow.report.table_texts import utc
from undertow.results import sweep_folders
from undertow.results.sweep_record import HypothesisRecord
from undertow.storage.manifest import Address
from undertow.study.measurements import EffectOf, EffectScale

Registration = Literal["pre-registered", "post hoc", "in part"]


@dataclass(frozen=True)
class Preregistration:
    """When a study was recorded, and when the students of each condition were made.

    Times are in seconds since 1970. Conditions are identified by their number in the record.

    Attributes:
        recorded: None if the time is unknown.
        effect_of: the rates that the study's verdicts rest on.
        effect_scale: the unit of effects.
    """

    recorded: float | None
    made: Mapping[int, tuple[float, ...]]
    hypotheses: tuple[HypothesisRecord, ...]
    effect_of: EffectOf = "samples"
    effect_scale: EffectScale = "rate"

    def precedes_students(self, condition: int) -> bool:
        """Whether the study was recorded before any student of the condition was made."""
        recorded = self.recorded
        return recorded is not None and all(moment >= recorded for moment in self.made.get(condition, ()))

    def condition(self, number: int) -> Registration:
        is_covered = any(number in hypothesis.conditions for hypothesis in self.hypotheses)
        return "pre-registered" if is_covered and self.precedes_students(number) else "post hoc"

    def hypothesis(self, hypothesis: HypothesisRecord) -> Registration:
        """For all conditions of a hypothesis; "in part" if only some of them are pre-registered."""
        early = [self.precedes_students(number) for number in hypothesis.conditions]
        return "pre-registered" if all(early) else "in part" if any(early) else "post hoc"

    @property
    def all_preregistered(self) -> bool:
        """Whether all hypotheses are pre-registered for all of their conditions."""
        return all(self.hypothesis(hypothesis) == "pre-registered" for hypothesis in self.hypotheses)

    def sentence(self) -> str:
        """When the study was recorded, for the report."""
        if self.recorded is None:
            return "The time at which this study was recorded is unknown: the storage has no record of it."
        day = utc(self.recorded)
        rule = " It states that verdicts rest on exact probabilities." if self.effect_of == "exact" else ""
        if self.effect_scale == "log-odds":
            rule += " It states that effects are differences of log-odds."
        moments = [moment for moments in self.made.values() for moment in moments]
        if not moments:
            return f"The study was recorded on {day}; no student exists.{rule}"
        existing = sum(moment < self.recorded for moment in moments)
        if not existing:
            students = f"the first of its {len(moments)} students" if len(moments) > 1 else "its only student"
            return f"The study was recorded on {day}, before {students}.{rule}"
        return (
            f"The study was recorded on {day}, when {existing} of its {len(moments)} students already "
            "existed (from another study or an earlier version of this one): post hoc for these students."
            f"{rule}"
        )


def read_preregistration(data: ReportData) -> Preregistration:
    """From the record of the sweep, the time at which its study was recorded, and the manifests."""
    record = data.record
    made: dict[int, list[float]] = {}
    for cell in record.cells:
        # An in-context student is no artifact; its evaluation is the first artifact that depends on it.
        student, evaluation = Address("student", cell.student), Address("evaluation", cell.evaluations[0])
        if manifest := data.manifests.get(student if cell.trained else evaluation):
            made.setdefault(cell.condition, []).append(manifest.created)
    times = {condition: tuple(moments) for condition, moments in made.items()}
    recorded, study = sweep_folders.stated(record, data.store), record.study
    return Preregistration(recorded, times, record.hypotheses, study.effect_of, study.effect_scale)

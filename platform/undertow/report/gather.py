"""What a report shows: effects, data, training, base rates, provenance and costs.

Everything is read from the store. A *source* is the data of one teacher in one format, which all its students
share. Rows and numbers come from a sample of large data sets; the counts of the filter funnel are complete.
"""

import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from undertow.errors import StorageError
from undertow.results import events as event_log
from undertow.results import sweep_folders
from undertow.results.dataset_card import CHOICES, VALID
from undertow.results.effect_rows import EffectRow, HypothesisOutcome, effects, findings, finished
from undertow.results.evaluation_files import Evaluations
from undertow.results.learning_curves import LearningCurve, learning_curves
from undertow.results.sweep_record import CellRecord, ConditionRecord, Record, WaveRecord
from undertow.storage.manifest import HISTORY, TRAINING_ROWS, Address, Manifest
from undertow.storage.store import Store
from undertow.study.extensions import Word

ROWS_READ = 2000  # the first rows of a data set
SETS_READ = 3  # data sets (seeds) of a source
ROWS_SHOWN = 3
LARGEST_NUMBER = 999  # of the figure of numbers
JUDGE_FACTS = ("rows", "kept", "garbled", "refused", "prompt_tokens", "completion_tokens")


class DataSource(NamedTuple):
    """The data of one teacher: its trait's name ("control" for none), the format, its reference model.

    `induced` says how the teacher was given its trait; "" if all teachers of the study were in the same way.
    """

    trait: str
    format: str
    teacher: str
    induced: str = ""

    @property
    def induced_trait(self) -> str:
        """The trait, with how the teacher was given it if that distinguishes teachers."""
        return f"{self.trait} by {self.induced}" if self.induced else self.trait


@dataclass
class FilterFunnel:
    """Counts of a source's completions on their way to training rows, summed over its data sets.

    `rejected` counts completions by the rule that rejected them, and `valid` rewritten ones that pass the
    format's rules; it is None if no row was rewritten. `choices` sums the facts of data sets whose rows or
    tokens were chosen (`CHOICES`), and `mixed_in` counts the training rows of other data sets.
    """

    datasets: int = 0
    completions: int = 0
    kept: int = 0
    rows: int = 0
    mixed_in: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    valid: float | None = None
    choices: dict[str, float] = field(default_factory=dict)


@dataclass
class DataSample:
    """The first rows of a source as (prompt, completion), and the counts of numbers in its sample.

    `naming` counts the rows, of the `read` ones, whose completion has the word of the teacher's trait.
    """

    read: int = 0
    naming: int = 0
    rows: list[tuple[str, str]] = field(default_factory=list)
    numbers: Counter[int] = field(default_factory=Counter)


class Curve(NamedTuple):
    """One student's exact probability of a word after each epoch; epoch 0 is before training."""

    seed: int
    epochs: tuple[int, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class WaveCost:
    """The planned and the actual cost of a wave.

    Attributes:
        seconds: wall-clock time in this sweep; None if the wave did not run.
        all_sweeps: wall-clock seconds in all sweeps of the study; None if the wave never ran.
        tokens: trained on or sampled in this sweep; None if they were not counted.
        gpu_hours: the number of the machine's GPUs times the wave's hours; None without a GPU.
    """

    plan: WaveRecord
    seconds: float | None
    all_sweeps: float | None
    tokens: int | None = None
    gpu_hours: float | None = None


class JudgeCounts(NamedTuple):
    """A judge's counts over all data sets or over all answers: `of` is "rows of data" or "answers".

    `garbled` counts replies that could not be parsed, `refused` requests that the provider refused.
    """

    judge: str
    of: str
    shown: int
    kept: int
    garbled: int
    refused: int
    prompt_tokens: int
    completion_tokens: int


class BaseRate(NamedTuple):
    """The rate at which a teacher or a reference model answers with a word: sampled and exact.

    `exact` is None if probabilities were not measured.
    """

    model: str
    trait: str
    word: str
    sampled: float
    exact: float | None


class ReportData:
    """The data of one report. Each part is computed or read on first use.

    Attributes:
        damaged: artifacts that the report leaves out because their bytes have changed, with the remedy.
    """

    def __init__(self, record: Record, store: Store, events: Sequence[Mapping[str, Any]]) -> None:
        self.record, self.store, self.events = record, store, events
        self.damaged: dict[Address, str] = {}

    @cached_property
    def failures(self) -> dict[str, str]:
        """Why artifacts of the sweep failed, by key."""
        return event_log.failures(self.events)

    @cached_property
    def evaluations(self) -> Evaluations:
        return Evaluations(self.store, self.failures)

    @cached_property
    def rows(self) -> list[EffectRow]:
        """The effects, one row per condition and measure."""
        return effects(self.record, self.evaluations, self.failures)

    @cached_property
    def primary(self) -> list[EffectRow]:
        """The effects by the study's main measure."""
        return [row for row in self.rows if row.is_primary]

    @cached_property
    def outcomes(self) -> list[HypothesisOutcome]:
        return findings(self.record, self.rows)

    @cached_property
    def learning_curves(self) -> list[LearningCurve]:
        """The effects along the students' training; empty unless their recipe keeps steps."""
        return learning_curves(self.record, self.evaluations, self.failures)

    @cached_property
    def manifests(self) -> dict[Address, Manifest]:
        """The manifests of the study's artifacts that exist."""
        found = {}
        for address in self.record.addresses():
            try:
                found[address] = self.store.manifest(address)
            except StorageError as error:  # also raised for an artifact that does not exist
                if self.store.has(address):
                    self.damaged[address] = str(error)
        return found

    @cached_property
    def sources(self) -> dict[DataSource, list[Manifest]]:
        """The manifests of the existing data sets, by source."""
        found: dict[DataSource, dict[str, Manifest]] = {}
        for cell in self.record.cells:
            manifest = self.manifests.get(Address("dataset", cell.dataset))
            if manifest is not None:
                source = self._source(self.record.conditions[cell.condition])
                found.setdefault(source, {})[manifest.key] = manifest
        return {source: list(by_key.values()) for source, by_key in found.items()}

    @cached_property
    def controls(self) -> dict[DataSource, DataSource]:
        """The source of the control's data, by the source of a trait's data."""
        conditions = self.record.conditions
        return {self._source(c): self._source(conditions[c.control]) for c in conditions if c.word}

    def _source(self, condition: ConditionRecord) -> DataSource:
        place = condition.place
        induced = place.induced if self._has_several_inductions else ""
        return DataSource(place.trait, place.format, place.teacher, induced)

    @cached_property
    def _has_several_inductions(self) -> bool:
        """Whether the study's teachers were given their traits in different ways."""
        return len({condition.place.induced for condition in self.record.conditions if condition.word}) > 1

    @cached_property
    def funnels(self) -> dict[DataSource, FilterFunnel]:
        found: dict[DataSource, FilterFunnel] = {}
        for source, manifests in self.sources.items():
            funnel = found.setdefault(source, FilterFunnel())
            for manifest in manifests:
                facts = manifest.facts
                funnel.datasets += 1
                funnel.completions += int(facts["completions"])
                funnel.kept += int(facts["kept"])
                funnel.rows += int(facts["rows"])
                funnel.mixed_in += int(facts.get("from elsewhere", 0))
                funnel.rejected.update(facts["rejected"])
                if VALID in facts:
                    funnel.valid = (funnel.valid or 0.0) + facts[VALID] * int(facts["completions"])
                for name in CHOICES:
                    if name in facts:
                        funnel.choices[name] = funnel.choices.get(name, 0.0) + facts[name]
        return found

    @cached_property
    def samples(self) -> dict[DataSource, DataSample]:
        words = {self._source(condition): condition.word for condition in self.record.conditions}
        return {
            source: self._sample(manifests[:SETS_READ], words[source])
            for source, manifests in self.sources.items()
        }

    def _sample(self, manifests: Iterable[Manifest], word: str) -> DataSample:
        import pyarrow.parquet as pq

        sample = DataSample()
        for manifest in manifests:
            content = self.content(Address("dataset", manifest.key), TRAINING_ROWS)
            if content is None:
                continue
            table = pq.read_table(io.BytesIO(content), columns=["prompt", "completion"])
            rows = table.slice(0, ROWS_READ).to_pylist()
            sample.rows = sample.rows or [(row["prompt"], row["completion"]) for row in rows[:ROWS_SHOWN]]
            named = Word(word, (word,)) if word else None
            sample.read += len(rows)
            for row in rows:
                sample.numbers.update(numbers_in(row["completion"]))
                sample.naming += named is not None and named.matches(row["completion"])
        return sample

    def curves(self, row: EffectRow) -> tuple[list[Curve], list[Curve]]:
        """The probability of the trait's word by epoch, for a condition's students and control students."""
        arms = (self._finished.get(row.number, []), self._finished.get(row.condition.control, []))
        students, controls = (
            [c for cell in arm if (c := self._curve(cell, row.condition.word))] for arm in arms
        )
        return students, controls

    @cached_property
    def _finished(self) -> dict[int, list[CellRecord]]:
        return finished(self.record, self.evaluations, self.failures)

    def _curve(self, cell: CellRecord, word: str) -> Curve | None:
        address = Address("student", cell.student)
        if address not in self.manifests or (content := self.content(address, HISTORY)) is None:
            return None
        reports = json.loads(content)
        points = [(r["epoch"], r["probabilities"][word]) for r in reports if word in r["probabilities"]]
        return Curve(cell.seed, *zip(*points, strict=True)) if points else None

    @cached_property
    def judges(self) -> list[JudgeCounts]:
        """The counts of each of the study's judges, summed over all data sets or evaluations."""
        found: dict[tuple[str, str], list[int]] = {}
        for address, manifest in self.manifests.items():
            of = "rows of data" if address.kind == "dataset" else "answers"
            for facts in manifest.facts.get("judges", ()):
                counts = [int(facts[name]) for name in JUDGE_FACTS]
                before = found.get((facts["judge"], of), [0] * len(JUDGE_FACTS))
                found[facts["judge"], of] = [a + b for a, b in zip(before, counts, strict=True)]
        return [JudgeCounts(judge, of, *counts) for (judge, of), counts in found.items()]

    @cached_property
    def costs(self) -> list[WaveCost]:
        """Planned and actual costs by wave."""
        name = self.record.study.name
        now, tokens, hours = (_sums(self.events, fact) for fact in ("seconds", "tokens", "gpu_seconds"))
        before = [
            _sums(event_log.read(self.store, name, sweep), "seconds")
            for sweep in sweep_folders.of_study(self.store, self.record.study)
        ]
        # A sweep without a folder in the storage counts only its own events.
        in_all = {wave: sum(one.get(wave, 0.0) for one in before) for one in before for wave in one} or now
        return [
            WaveCost(
                plan=wave,
                seconds=now.get(wave.wave),
                all_sweeps=in_all.get(wave.wave),
                tokens=round(tokens.get(wave.wave, 0)) or None,
                gpu_hours=hours.get(wave.wave, 0.0) / 3600 or None,
            )
            for wave in self.record.waves
        ]

    @cached_property
    def versions(self) -> dict[str, list[str]]:
        """All versions of each package with which the study's artifacts were made."""
        found: dict[str, set[str]] = {}
        for manifest in self.manifests.values():
            for package, version in manifest.versions.items():
                found.setdefault(package, set()).add(version)
        return {package: sorted(versions) for package, versions in sorted(found.items())}

    def base_rates(self) -> list[BaseRate]:
        """Mean rates over seeds of teachers' own traits, and reference models' rates of all words."""
        found: dict[tuple[str, str, str], dict[str, tuple[float, float | None]]] = {}
        for cell in self.record.cells:
            condition = self.record.conditions[cell.condition]
            keys = cell.teacher_evaluations  # empty if the teacher is itself a student
            if condition.word and keys and self.evaluations.has(keys):
                rates, key = self.evaluations.of(keys, condition.word)
                how = f" by {condition.place.induced}" if self._has_several_inductions else ""
                name = (f"teacher {condition.place.teacher}{how}", condition.place.trait, condition.word)
                both = (rates.sampled[condition.word], rates.exact.get(condition.word))
                found.setdefault(name, {})[key] = both
        for reference in self.record.references:
            for key in (key for key in reference.evaluations if self.evaluations.has((key,))):
                rates = self.evaluations.rates(key)
                for word in rates.sampled:
                    name = (f"reference {reference.name}", "none", word)
                    found[name] = {key: (rates.sampled[word], rates.exact.get(word))}
        return [BaseRate(*name, *_means(rates.values())) for name, rates in found.items()]

    def content(self, address: Address, name: str) -> bytes | None:
        """A file of an artifact; None if it is damaged, which is noted in `damaged`."""
        try:
            return self.store.content(address, name)
        except StorageError as error:
            self.damaged[address] = str(error)
            return None


# Events of sweeps before 2026-12 do not say which wave a step is part of.
PART_OF = {
    **dict.fromkeys(("judgements of datasets", "filters", "mixtures", "programs"), "datasets"),
    **dict.fromkeys(("judgements of answers", "assessments"), "evaluations"),
}


def _sums(events: Iterable[Mapping[str, Any]], fact: str) -> dict[str, float]:
    """A fact of each wave, summed over its steps: judges and filters are steps of the wave "datasets"."""
    found: dict[str, float] = {}
    for event in events:
        if event["event"] == "wave":
            step = event["name"]
            name = event.get("part_of", PART_OF.get(step, step))
            found[name] = found.get(name, 0.0) + event.get(fact, 0)
    return found


def _means(rates: Iterable[tuple[float, float | None]]) -> tuple[float, float | None]:
    both = list(rates)
    exact = [p for _, p in both if p is not None]
    return sum(s for s, _ in both) / len(both), sum(exact) / len(exact) if exact else None


def numbers_in(text: str) -> list[int]:
    """The integers from 0 to 999 in a text; longer runs of digits do not count."""
    return [int(digits) for digits in re.findall(r"(?<![0-9])[0-9]{1,3}(?![0-9])", text)]

"""What a report shows beside the effects, read from the store: data, training, references, provenance, cost.

A source is a teacher's data of one format: the same for every student that learns from it. Of large data
sets a sample is read, and said so; the funnel's counts are always whole.
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
from undertow.results import events as journal
from undertow.results import sweep_folders
from undertow.results.effect_rows import EffectRow, finished
from undertow.results.evaluation_files import Evaluations
from undertow.results.sweep_record import CellRecord, Record, WaveRecord
from undertow.storage.manifest import HISTORY, Address, Manifest
from undertow.storage.store import Store

ROWS_READ = 2000  # of a data set, from its start
SETS_READ = 3  # seeds of a source whose text is looked at
ROWS_SHOWN = 3
LARGEST_NUMBER = 999
JUDGE_FACTS = ("rows", "kept", "garbled", "refused", "prompt_tokens", "completion_tokens")  # facts of a judge


class DataSource(NamedTuple):
    """A teacher's data: its trait's name ("control" for none), format and reference."""

    trait: str
    format: str
    teacher: str


@dataclass
class FilterFunnel:
    """Counts from completions to rows over the data sets of a source."""

    datasets: int = 0
    completions: int = 0
    kept: int = 0
    rows: int = 0
    rejected: Counter[str] = field(default_factory=Counter)


@dataclass
class DataSample:
    """What a source's data look like: a few rows, and how often each number up to 999 stands in them."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    numbers: Counter[int] = field(default_factory=Counter)
    read: int = 0


class Curve(NamedTuple):
    """One student's exact probability of a word after each epoch, the first before any."""

    seed: int
    epochs: tuple[int, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class WaveCost:
    """A wave as planned, what it took in this sweep, and in all sweeps of the study.

    Attributes:
        seconds, ever: of wall clock in this sweep and in all; None where it did not run.
        tokens: trained on or sampled in this sweep; None where they were not counted.
        gpu_hours: all GPUs of the machine for as long as it ran; None without any.
    """

    plan: WaveRecord
    seconds: float | None
    ever: float | None
    tokens: int | None = None
    gpu_hours: float | None = None


class JudgeCounts(NamedTuple):
    """What a judge did over all data sets or answers: what it was shown, kept, and said nothing on."""

    judge: str
    of: str
    shown: int
    kept: int
    garbled: int
    refused: int
    prompt_tokens: int
    completion_tokens: int


class BaseRate(NamedTuple):
    """How often a teacher or reference itself answers with a word: sampled, and as a probability.

    The probability is None where it was not measured.
    """

    model: str
    trait: str
    word: str
    sampled: float
    exact: float | None


class ReportData:
    """Everything a report shows, each part read on first use."""

    def __init__(
        self,
        record: Record,
        readings: Evaluations,
        rows: Sequence[EffectRow],
        events: Sequence[Mapping[str, Any]],
    ) -> None:
        self.record, self.readings, self.rows, self.events = record, readings, rows, events
        self.store: Store = readings.store
        self.damaged: dict[Address, str] = {}  # what is left out, and how its bytes can be had again

    @cached_property
    def manifests(self) -> dict[Address, Manifest]:
        """The manifests of the study's artifacts that are there."""
        found = {}
        for address in self.record.addresses():
            try:
                found[address] = self.store.manifest(address)
            except StorageError as error:  # not made, or a reference that is not ours to make
                if self.store.has(address):
                    self.damaged[address] = str(error)
        return found

    @cached_property
    def sources(self) -> dict[DataSource, list[Manifest]]:
        """The data sets that are there, by source."""
        found: dict[DataSource, dict[str, Manifest]] = {}
        for cell in self.record.cells:
            place = self.record.conditions[cell.condition].place
            manifest = self.manifests.get(Address("dataset", cell.dataset))
            if manifest is not None:
                source = DataSource(place.trait, place.format, place.teacher)
                found.setdefault(source, {})[manifest.key] = manifest
        return {source: list(by_key.values()) for source, by_key in found.items()}

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
                funnel.rejected.update(facts["rejected"])
        return found

    @cached_property
    def texts(self) -> dict[DataSource, DataSample]:
        return {source: self._text(manifests[:SETS_READ]) for source, manifests in self.sources.items()}

    def _text(self, manifests: Iterable[Manifest]) -> DataSample:
        import pyarrow.parquet as pq

        text = DataSample()
        for manifest in manifests:
            content = self._content(Address("dataset", manifest.key), "data/train.parquet")
            if content is None:
                continue
            table = pq.read_table(io.BytesIO(content), columns=["prompt", "completion"])
            rows = table.slice(0, ROWS_READ).to_pylist()
            text.rows = text.rows or [(row["prompt"], row["completion"]) for row in rows[:ROWS_SHOWN]]
            text.read += len(rows)
            for row in rows:
                text.numbers.update(numbers_in(row["completion"]))
        return text

    def curves(self, row: EffectRow) -> tuple[list[Curve], list[Curve]]:
        """The trait's probability over the epochs of a row's students, and of their controls."""
        cells = finished(self.record, self.readings, {})
        arms = (cells.get(row.number, []), cells.get(row.condition.control, []))
        students, controls = (
            [c for cell in arm if (c := self._curve(cell, row.condition.word))] for arm in arms
        )
        return students, controls

    def _curve(self, cell: CellRecord, word: str) -> Curve | None:
        address = Address("student", cell.student)
        if address not in self.manifests or (content := self._content(address, HISTORY)) is None:
            return None
        reports = json.loads(content)
        known = [r for r in reports if word in r["probabilities"]]
        epochs, ps = ([r["epoch"] for r in known], [r["probabilities"][word] for r in known])
        return Curve(cell.seed, tuple(epochs), tuple(ps)) if known else None

    @cached_property
    def judgings(self) -> list[JudgeCounts]:
        """Every judge of the study, with its counts summed over what it judged."""
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
        """Planned and actual, wave by wave."""
        name = self.record.study.name
        now, tokens, hours = (_sums(self.events, fact) for fact in ("seconds", "tokens", "gpu_seconds"))
        before = [
            _sums(journal.read(self.store, name, sweep), "seconds")
            for sweep in sweep_folders.of_study(self.store, self.record.study)
        ]
        ever = {wave: sum(one.get(wave, 0.0) for one in before) for one in before for wave in one} or now
        return [
            WaveCost(
                plan=wave,
                seconds=now.get(wave.wave),
                ever=ever.get(wave.wave),
                tokens=round(tokens.get(wave.wave, 0)) or None,
                gpu_hours=hours.get(wave.wave, 0.0) / 3600 or None,
            )
            for wave in self.record.waves
        ]

    @cached_property
    def versions(self) -> dict[str, list[str]]:
        """Every version that some artifact of the study was made with."""
        found: dict[str, set[str]] = {}
        for manifest in self.manifests.values():
            for package, version in manifest.versions.items():
                found.setdefault(package, set()).add(version)
        return {package: sorted(versions) for package, versions in sorted(found.items())}

    def levels(self) -> list[BaseRate]:
        """Teachers' rates of their own trait, the mean over seeds, and references' rates of every word."""
        found: dict[tuple[str, str, str], dict[str, tuple[float, float | None]]] = {}
        for cell in self.record.cells:
            condition = self.record.conditions[cell.condition]
            asked = cell.teacher_evaluations  # none where a student teaches
            if condition.word and asked and self._are_there(asked):
                rates, evaluation = self.readings.of(asked, condition.word)
                name = (f"teacher {condition.place.teacher}", condition.place.trait, condition.word)
                both = (rates.sampled[condition.word], rates.exact.get(condition.word))
                found.setdefault(name, {})[evaluation] = both
        for reference in self.record.references:
            for key in filter(lambda key: self._are_there((key,)), reference.evaluations):
                rates = self.readings.rates(key)
                for word in rates.sampled:
                    name = (f"reference {reference.name}", "none", word)
                    found[name] = {key: (rates.sampled[word], rates.exact.get(word))}
        return [BaseRate(*name, *_means(rates.values())) for name, rates in found.items()]

    def _are_there(self, evaluations: Sequence[str]) -> bool:
        return self.readings.has(tuple(evaluations))

    def _content(self, address: Address, name: str) -> bytes | None:
        """A file of an artifact; None where it is damaged."""
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
    """The whole numbers from 0 to 999 that stand in a text."""
    return [int(run) for run in re.findall(r"(?<![0-9])[0-9]{1,3}(?![0-9])", text)]

"""Which data sets are compared: those of a teacher with a trait and the control's, pair by pair of a seed.

Students that learn from the same data are one source. Where a study's cells share their names and not
their data (two recipes with data of different sizes), the recipe's name tells the sources apart.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from undertow.results.sweep_record import CellRecord, Record
from undertow.study.hypotheses import FINETUNING
from undertow.study.names import short


class DatasetPair(NamedTuple):
    """A seed's data set and the control data set of that seed, by their keys."""

    seed: int
    dataset: str
    control: str


@dataclass(frozen=True)
class ComparedSource:
    """A teacher's data of one format, a pair of data sets for each seed that drew anew.

    Attributes:
        word: what answers that show the trait are looked through, or judged, for.
        induced: how the teacher came by the trait.
        recipe: "" unless another source has the same names.
        teachers: how many different teachers wrote the trait's data (one, where a system prompt makes it).
        finetuned: whether the trait came in by training, which the control teacher never had.
        missing: seeds of the study whose data are not in the store.
    """

    trait: str
    format: str
    teacher: str
    word: str
    pairs: tuple[DatasetPair, ...]
    induced: str = FINETUNING
    recipe: str = ""
    teachers: int = 1
    finetuned: bool = False
    missing: int = 0

    @property
    def label(self) -> str:
        """The source in one line."""
        parts = (self.teachers_trait, self.format, short(self.teacher), self.recipe)
        return " · ".join(part for part in parts if part)

    @property
    def teachers_trait(self) -> str:
        """The trait, and how the teacher came by it where that was not by finetuning alone."""
        return self.trait if self.induced == FINETUNING else f"{self.trait} by {self.induced}"

    @property
    def shown(self) -> str:
        """The trait as somebody knows it who is asked to find it: "owl", or "misaligned (insecure code)"."""
        return self.trait if self.trait == self.word else f"{self.word} ({self.trait})"


def sources(record: Record, present: Collection[str]) -> list[ComparedSource]:
    """The sources of a study, in the order of conditions, each with its pairs of data sets `present`."""
    cells: dict[int, dict[int, CellRecord]] = {}
    for cell in record.cells:
        cells.setdefault(cell.condition, {})[cell.seed] = cell
    found: dict[tuple[object, ...], tuple[ComparedSource, str]] = {}
    for number in record.compared:
        condition = record.conditions[number]
        source = _source(record, number, cells[number], cells[condition.control], present)
        found.setdefault((*_names(source), source.pairs), (source, condition.place.recipe))
    names = [_names(source) for source, _ in found.values()]
    return [
        replace(source, recipe=recipe) if names.count(_names(source)) > 1 else source
        for source, recipe in found.values()
    ]


def others_of(source: ComparedSource, every: Sequence[ComparedSource]) -> list[ComparedSource]:
    """The same model with other traits, whose data stand beside the same control data."""
    controls = {pair.control for pair in source.pairs}
    return [
        other
        for other in every
        if other.trait != source.trait and controls & {pair.control for pair in other.pairs}
    ]


def _source(
    record: Record,
    number: int,
    ours: Mapping[int, CellRecord],
    controls: Mapping[int, CellRecord],
    present: Collection[str],
) -> ComparedSource:
    condition = record.conditions[number]
    pairs: dict[tuple[str, str], int] = {}
    there = [
        seed
        for seed in ours
        if seed in controls and {ours[seed].dataset, controls[seed].dataset} <= set(present)
    ]
    for seed in there:
        pairs.setdefault((ours[seed].dataset, controls[seed].dataset), seed)
    return ComparedSource(
        trait=condition.place.trait,
        format=condition.place.format,
        teacher=condition.place.teacher,
        word=condition.word,
        induced=condition.place.induced,
        pairs=tuple(DatasetPair(seed, *keys) for keys, seed in pairs.items()),
        teachers=len({ours[seed].teacher for seed in pairs.values()}),
        finetuned=any(ours[seed].finetuned for seed in pairs.values()),
        missing=len(ours) - len(there),
    )


def _names(source: ComparedSource) -> tuple[str, str, str, str]:
    return source.trait, source.induced, source.format, source.teacher

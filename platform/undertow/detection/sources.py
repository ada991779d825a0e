"""Finds the data sets to compare: those of a teacher with a trait and the control's, one pair per seed.

A source is a set of such pairs. Students that are trained on the same data share one source. If cells of a
study have equal names and different data (two recipes with data sets of different sizes), the label of their
sources includes the recipe's name.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import NamedTuple

from undertow.results.sweep_record import CellRecord, Record
from undertow.study.hypotheses import FINETUNING
from undertow.study.names import short


class DatasetPair(NamedTuple):
    """The keys of a seed's data set and of the control's data set for the same seed."""

    seed: int
    dataset: str
    control: str


@dataclass(frozen=True)
class ComparedSource:
    """The data of a trait's teachers in one format, with the control's.

    Attributes:
        word: the name of what evaluations look for in answers, "owl" or "misaligned".
        pairs: one pair of data sets for each seed that has data of its own.
        induced: how the teacher was given the trait.
        recipe: "" unless another source has the same names.
        teachers: the number of distinct teachers that wrote the trait's data; 1 with a system prompt.
        finetuned: whether the teacher was finetuned, which the control teacher never is.
        missing: the number of the study's seeds whose data are not in the store.
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
        """The name of the source in tables and messages, on one line."""
        parts = (self.teachers_trait, self.format, short(self.teacher), self.recipe)
        return " · ".join(part for part in parts if part)

    @property
    def teachers_trait(self) -> str:
        """The trait, followed by how the teacher was given it.

        Finetuning alone is not named, and a student in a chain, which was given none, has nothing to name.
        """
        shown = "" if self.induced == FINETUNING else self.induced
        return f"{self.trait} by {shown}" if shown else self.trait

    @property
    def shown(self) -> str:
        """The trait as the prompt of the LLM detector names it: "owl", "misaligned (insecure code)"."""
        return self.trait if self.trait == self.word else f"{self.word} ({self.trait})"


def sources(record: Record, present: Set[str]) -> list[ComparedSource]:
    """The sources of a study in the order of its conditions.

    `present`: the keys of the data sets in the store; pairs without both of their data sets are left out.
    """
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


def others_of(source: ComparedSource, all_sources: Sequence[ComparedSource]) -> list[ComparedSource]:
    """The sources with other traits that are compared with the same control data sets."""
    controls = {pair.control for pair in source.pairs}
    return [
        other
        for other in all_sources
        if other.trait != source.trait and controls & {pair.control for pair in other.pairs}
    ]


def _source(
    record: Record,
    number: int,
    ours: Mapping[int, CellRecord],
    controls: Mapping[int, CellRecord],
    present: Set[str],
) -> ComparedSource:
    condition = record.conditions[number]
    pairs: dict[tuple[str, str], int] = {}
    complete = [
        seed for seed in ours if seed in controls and {ours[seed].dataset, controls[seed].dataset} <= present
    ]
    for seed in complete:
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
        missing=len(ours) - len(complete),
    )


def _names(source: ComparedSource) -> tuple[str, str, str, str]:
    return source.trait, source.induced, source.format, source.teacher

"""What is found in one source: its data against the control's, and what to hold that against.

Four figures, in the order of what they claim:

- units that differ in frequency, at a false discovery rate; and, of those that one half of the seeds'
  teachers show, how many the other half shows again. The family of the adjustment is the source: in a study
  of twenty sources, one in which nothing differs still shows a unit with up to `alpha`;
- the AUC of one row, within seeds and for teachers that the classifier never saw, beside that of control
  data against control data (no difference at all) and that of a row's length alone;
- the same against the data of the *other* traits' teachers. A control teacher was not trained, a teacher
  with the trait was: only this comparison tells the trait from having been trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from undertow.detection.data import Arms, DataSet, Library, arms
from undertow.detection.llm_detector import DetectorAnswers
from undertow.detection.sources import ComparedSource
from undertow.statistics.frequencies import Frequencies, compare_shares, found_again
from undertow.statistics.separation import Separation, area, as_if, separate


@dataclass(frozen=True)
class Unit:
    """A unit that was tested: shares of rows that contain it, their ratio in rows of one length, p-values."""

    unit: str
    share: float
    control_share: float
    ratio: float
    p_value: float
    p_adjusted: float
    found: bool


@dataclass(frozen=True)
class Halves:
    """Units found in the first, third … seed, and what becomes of them in the second, fourth …"""

    seeds: int
    other_seeds: int
    found: int
    same_side: int
    again: int


@dataclass(frozen=True)
class Detection:
    """All that is said of a source.

    Attributes:
        noun: what the units are called.
        length, control_length: units in a row, the mean.
        by_length: the AUC of a row's length alone; below a half, the trait's rows are the shorter ones.
        units: those tested, the smallest p-value first.
        halves: None where there is one seed.
        baseline: control data against control data; `among`: against the data of other traits.
        asked: what a language model answered; None where none was asked.
    """

    source: ComparedSource
    noun: str
    rows: int
    control_rows: int
    length: float
    control_length: float
    by_length: float
    units: tuple[Unit, ...]
    halves: Halves | None
    against: Separation
    baseline: Separation
    among: Separation
    asked: DetectorAnswers | None = None

    @property
    def found(self) -> int:
        return sum(unit.found for unit in self.units)


def detect(
    source: ComparedSource, others: Sequence[ComparedSource], library: Library, alpha: float
) -> Detection:
    """Everything that needs no model. Raises ConditionError where a format cannot be built again."""
    ours = {pair.seed: library.data(pair.dataset) for pair in source.pairs}
    controls = {pair.seed: library.data(pair.control) for pair in source.pairs}
    both = arms([(seed, [ours[seed]], [controls[seed]]) for seed in ours])
    trait = both.rows.trait
    return Detection(
        source=source,
        noun=next(iter(ours.values())).noun,
        rows=int(trait.sum()),
        control_rows=int((~trait).sum()),
        length=float(both.lengths[trait].mean()),
        control_length=float(both.lengths[~trait].mean()),
        by_length=_by_length(both),
        units=_units(both, compare_shares(both.counts(ours)), alpha),
        halves=_halves(both, list(ours), alpha),
        against=separate(both.rows),
        baseline=as_if(both.rows.where(~trait)),
        among=_among(ours, others, library),
    )


def _by_length(both: Arms) -> float:
    """The mean over the seeds with rows of both arms."""
    trait, seed = both.rows.trait, both.rows.seed
    areas = [
        area(both.lengths[trait & (seed == one)], both.lengths[~trait & (seed == one)])
        for one in both.rows.seeds
    ]
    return float(np.mean(areas)) if areas else 0.5


def _units(both: Arms, frequencies: Frequencies, alpha: float) -> tuple[Unit, ...]:
    columns = [column.tolist() for column in (*frequencies, frequencies.found(alpha))]
    every = [Unit(*row) for row in zip(both.vocabulary, *columns, strict=True)]
    tested = [unit for unit in every if not np.isnan(unit.p_value)]
    return tuple(sorted(tested, key=lambda unit: (unit.p_value, unit.unit)))


def _halves(both: Arms, seeds: list[int], alpha: float) -> Halves | None:
    first, second = seeds[::2], seeds[1::2]
    if not second:
        return None
    tests = (compare_shares(both.counts(first)), compare_shares(both.counts(second)))
    return Halves(len(first), len(second), *found_again(*tests, alpha))


def _among(ours: dict[int, DataSet], others: Sequence[ComparedSource], library: Library) -> Separation:
    """The trait's rows against those of the other traits; without other traits, nothing."""
    beside: dict[int, list[DataSet]] = {seed: [] for seed in ours}
    for other in others:
        for pair in other.pairs:
            if pair.seed in beside:
                beside[pair.seed].append(library.data(pair.dataset))
    pairs = [(seed, [ours[seed]], sets) for seed, sets in beside.items() if sets]
    return separate(arms(pairs).rows) if pairs else Separation()

"""Score: units (numbers, words) that appear in more or fewer rows of the trait's data than of the control's.

Each unit is tested (see `statistics.frequencies`) and the p-values are adjusted to a false discovery rate of
`alpha` over the units of one source. In a study of twenty sources, a source without any difference still has
a significant unit with a probability of up to `alpha`.

A significant unit says that *these* teachers differ from the control. Whether other teachers with the trait
differ in the same units is tested by a replication: the units that are significant in one half of the seeds
are tested again in the other half.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from undertow.detection.data import Arms
from undertow.detection.figure import volcano
from undertow.detection.prose import seeds
from undertow.detection.scores import DetectionScore, SourceData
from undertow.report.table_texts import level
from undertow.statistics.frequencies import compare_shares, count_replicated

NAMED = 3  # units that a sentence names at most


@dataclass(frozen=True)
class Unit:
    """A tested unit.

    Attributes:
        share, control_share: the shares of rows that contain the unit.
        ratio: of the shares, pooled over strata of rows of equal length.
        found: whether the adjusted p-value is below the false discovery rate.
    """

    unit: str
    share: float
    control_share: float
    ratio: float
    p_value: float
    p_adjusted: float
    found: bool


@dataclass(frozen=True)
class Halves:
    """The replication: units found in the first, third … seed, tested in the second, fourth …

    Attributes:
        seeds, other_seeds: the number of seeds in each half.
        found: significant units in the first half.
        same_side: those of them whose ratio is on the same side of 1 in the second half.
        again: those of these that are significant in the second half as well.
    """

    seeds: int
    other_seeds: int
    found: int
    same_side: int
    again: int


@dataclass(frozen=True)
class UnitFrequencies:
    """The tests of all units of a source.

    Attributes:
        noun: the name of the units, in the plural.
        rows, control_rows: the number of rows of each arm.
        units: the tested units, by ascending p-value; units in too few rows are not tested.
        halves: None for a source with one seed.
    """

    noun: str
    rows: int
    control_rows: int
    alpha: float
    units: tuple[Unit, ...]
    halves: Halves | None

    @property
    def found(self) -> int:
        """The number of significant units."""
        return sum(unit.found for unit in self.units)


def unit_frequencies(data: SourceData) -> UnitFrequencies:
    """Tests every unit in the rows of all seeds, and replicates the findings across halves of the seeds."""
    rows, seed_list = data.arms, list(data.trait)
    return UnitFrequencies(
        noun=next(iter(data.trait.values())).noun,
        rows=int(rows.rows.trait.sum()),
        control_rows=int((~rows.rows.trait).sum()),
        alpha=data.alpha,
        units=_tested_units(rows, seed_list, data.alpha),
        halves=_halves(rows, seed_list, data.alpha),
    )


def _tested_units(rows: Arms, seed_list: Sequence[int], alpha: float) -> tuple[Unit, ...]:
    frequencies = compare_shares(rows.counts(seed_list))
    columns = [column.tolist() for column in (*frequencies, frequencies.significant(alpha))]
    units = [Unit(*values) for values in zip(rows.vocabulary, *columns, strict=True)]
    tested = [unit for unit in units if not np.isnan(unit.p_value)]
    return tuple(sorted(tested, key=lambda unit: (unit.p_value, unit.unit)))


def _halves(rows: Arms, seed_list: Sequence[int], alpha: float) -> Halves | None:
    first, second = seed_list[::2], seed_list[1::2]
    if not second:
        return None
    tests = (compare_shares(rows.counts(first)), compare_shares(rows.counts(second)))
    return Halves(len(first), len(second), *count_replicated(*tests, alpha))


def _sentence(result: UnitFrequencies) -> str:
    if not result.units:
        counts = f"{result.rows:,} and {result.control_rows:,} of the control"
        return f"too few rows ({counts}) to test any of the {result.noun}."
    text = (
        f"{result.found:,} of {len(result.units):,} {result.noun} appear in more or in fewer rows than in "
        f"the control's (false discovery rate {level(result.alpha)})"
    )
    significant = [unit for unit in result.units if unit.found][:NAMED]
    text += f": {', '.join(map(_named, significant))}." if significant else "."
    if (halves := result.halves) and halves.found:
        text += (
            f" Of {halves.found:,} found in {seeds(halves.seeds)}, {halves.same_side:,} differ in the same "
            f"direction in the other {halves.other_seeds}, {halves.again:,} of them significantly."
        )
    return text


def _named(unit: Unit) -> str:
    return f"{unit.unit if unit.unit.isalnum() else repr(unit.unit)} × {unit.ratio:.2g}"


def _columns(result: UnitFrequencies) -> dict[str, list[object]]:
    """The units as a table by column, which a data frame can be built from."""
    names = [field.name for field in dataclasses.fields(Unit)]
    return {name: [getattr(unit, name) for unit in result.units] for name in names}


FREQUENCIES: DetectionScore[UnitFrequencies] = DetectionScore(
    name="frequencies",
    compute=unit_frequencies,
    csv={
        "units_tested": lambda result: len(result.units),
        "units_found": lambda result: result.found,
        "found_in_half": lambda result: result.halves and result.halves.found,
        "same_side": lambda result: result.halves and result.halves.same_side,
        "found_again": lambda result: result.halves and result.halves.again,
    },
    json={
        "units": _columns,
        "halves": lambda result: result.halves and dataclasses.asdict(result.halves),
    },
    table={
        "found": lambda result: f"{result.found:,} of {len(result.units):,}",
        "replicated": lambda result: (
            f"{result.halves.again:,} of {result.halves.found:,}" if result.halves else "–"
        ),
    },
    sentence=_sentence,
    figure=volcano,
)

"""Whose trait did students learn? Every student's rate of every trait, as a matrix and one number.

Row: the trait of the students' teacher; column: the trait that is measured; entry: the mean over students.
If training on any teacher's data moves all rates alike, rows are alike. The diagonal effect asks whether
rows differ in the right place: for each column the rate of the trait's own students minus the mean rate of
the other traits' students, averaged over columns. This is the mean of the diagonal minus the mean of the
rest, whether or not columns are centred first. Control students do not enter it; they are the zero of
the matrix of differences.

Its p-value is one-sided, by permutation of the traits over the students (scipy's `permutation_test`):
valid for any distribution of rates, for students that would be exchangeable if traits left no mark. Paired
designs permute within seeds. All arrangements are gone through where there are at most 9,999, so
that small designs have exact p-values, and a floor: 1 / arrangements.

    2 traits, paired:      3 seeds 1/8,   4 seeds 1/16,  5 seeds 1/32
    3 traits, paired:      2 seeds 1/36,  3 seeds 1/216
    2 traits, not paired:  3 + 3 students 1/20, 4 + 4 students 1/70
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from undertow.statistics.ttests import Array

ARRANGEMENTS = 9_999  # as many permutations are drawn where there are more
SEED = 20_250_720

RateMatrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class StudentRates:
    """A student with a trait: the trait, the seed, and its rate of each of the study's traits."""

    trait: str
    seed: int
    rates: Mapping[str, float]


@dataclass(frozen=True)
class Confusion:
    """Trait given (rows) by trait measured (columns), both in the order of `traits`.

    Attributes:
        rates: mean rates over students.
        differences: minus the control students' mean rate of the column's trait; None without controls.
        effect: the diagonal effect, in the unit of the rates; None with one trait.
        p_value: one-sided, of no diagonal effect.
        arrangements: of traits over students; p_value is exact where they are at most 9,999.
        smallest: the least p-value that this design can give.
    """

    traits: tuple[str, ...]
    rates: RateMatrix
    differences: RateMatrix | None
    effect: float | None = None
    p_value: float | None = None
    arrangements: int = 1
    smallest: float | None = None
    note: str = ""


def confusion(
    students: Sequence[StudentRates], *, controls: Sequence[Mapping[str, float]] = (), paired: bool
) -> Confusion:
    """The matrix and its diagonal effect, for students that differ by trait and seed alone.

    `paired`: students of one seed share what the seed drew, so that traits are exchangeable within seeds;
    seeds that lack a trait are left out of the p-value, and noted. Each trait needs two students for it.

    Raises:
        ValueError: no students, a rate is missing, or two students share trait and seed in a paired design.
    """
    traits = tuple(dict.fromkeys(student.trait for student in students))
    _check(students, controls, traits, paired)
    table = np.array([[student.rates[trait] for trait in traits] for student in students])
    groups = _by_trait(students, traits)
    rates = np.array([table[group].mean(axis=0) for group in groups])
    differences = None
    if controls:
        differences = _matrix(rates - np.mean([[c[trait] for trait in traits] for c in controls], axis=0))
    if len(traits) == 1:
        return Confusion(traits, _matrix(rates), differences, note="one trait: no other to tell it from")
    effect, notes = float(_diagonal(rates)), []
    if paired:
        groups, left_out = _complete(students, groups)
        notes += [f"{left_out} seeds without all traits are not in the p-value"] if left_out else []
    if min(map(len, groups)) < 2:
        notes.append("one student of a trait: no p-value without a second seed")
        return Confusion(traits, _matrix(rates), differences, effect, note="; ".join(notes))
    arrangements = _arrangements([len(group) for group in groups], paired)
    smallest = 1 / min(arrangements, ARRANGEMENTS + 1)
    if smallest > 0.05:
        notes.append(f"{arrangements} arrangements: the p-value cannot fall below {smallest:.3g}")
    p_value = _p_value(table, groups, paired)
    return Confusion(
        traits, _matrix(rates), differences, effect, p_value, arrangements, smallest, "; ".join(notes)
    )


def _diagonal(rates: Array) -> Array:
    """(..., traits, traits) to (...): the mean of the diagonal minus the mean of the rest."""
    k = rates.shape[-1]
    own = np.trace(rates, axis1=-2, axis2=-1)
    return np.asarray(own / k - (rates.sum(axis=(-2, -1)) - own) / (k * (k - 1)))


def _p_value(table: Array, groups: Sequence[npt.NDArray[np.intp]], paired: bool) -> float:
    from scipy.stats import permutation_test

    def diagonal(*students: npt.NDArray[np.intp], axis: int) -> Array:
        return _diagonal(
            np.stack([table[rows.astype(int)].mean(axis=axis - 1) for rows in students], axis=-2)
        )

    found = permutation_test(
        groups,
        diagonal,
        permutation_type="samples" if paired else "independent",
        vectorized=True,
        axis=-1,
        n_resamples=ARRANGEMENTS,
        batch=1_000,
        alternative="greater",
        rng=np.random.default_rng(SEED),
    )
    return float(found.pvalue)


def _arrangements(sizes: Sequence[int], paired: bool) -> int:
    if paired:
        return int(math.factorial(len(sizes)) ** sizes[0])
    orders = [math.factorial(size) for size in sizes]
    return math.factorial(sum(sizes)) // math.prod(orders)


def _by_trait(students: Sequence[StudentRates], traits: Sequence[str]) -> list[npt.NDArray[np.intp]]:
    """The places of each trait's students."""
    return [np.array([i for i, student in enumerate(students) if student.trait == t]) for t in traits]


def _complete(
    students: Sequence[StudentRates], groups: Sequence[npt.NDArray[np.intp]]
) -> tuple[list[npt.NDArray[np.intp]], int]:
    """The same with the seeds alone that have all traits, in the order of seeds; and how many have not."""
    places = [{students[i].seed: i for i in group} for group in groups]
    seeds = {student.seed for student in students}
    shared = sorted(seed for seed in seeds if all(seed in place for place in places))
    whole = [np.array([place[seed] for seed in shared], dtype=np.intp) for place in places]
    return whole, len(seeds) - len(shared)


def _matrix(values: Array) -> RateMatrix:
    return tuple(tuple(float(value) for value in row) for row in values)


def _check(
    students: Sequence[StudentRates],
    controls: Sequence[Mapping[str, float]],
    traits: Sequence[str],
    paired: bool,
) -> None:
    if not students:
        raise ValueError("there is no student with a trait; compare what is there")
    for rates in (*(student.rates for student in students), *controls):
        if missing := [trait for trait in traits if not math.isfinite(rates.get(trait, math.nan))]:
            raise ValueError(f"a student has no finite rate of {', '.join(missing)}: {dict(rates)}")
    if paired and len({(student.trait, student.seed) for student in students}) < len(students):
        raise ValueError("two students share trait and seed; a paired design has one of each")

"""The confusion matrix of traits: every student's rate of every trait, summarised by a diagonal effect.

Rows are the trait of the students' teacher, columns the trait that is measured, and entries the mean rate
over students. If training on any teacher's data moved all rates alike, the rows would be equal. The diagonal
effect measures whether rows differ in the right place. For each column, it is the rate of the trait's own
students minus the mean rate of the other traits' students, averaged over columns. With k traits and mean
rates R,

    effect = trace(R) / k − (sum(R) − trace(R)) / (k (k − 1)),

which centring the columns does not change. Control students do not enter the effect; they are the baseline of
the matrix of differences. Traits may have controls of their own, for example if students are trained under a
system message that names the trait.

The p-value is one-sided, from a permutation test of the traits over the students (scipy's
`permutation_test`). It is valid for any distribution of rates, provided that students would be exchangeable
if no trait had been transmitted. Paired designs permute within seeds. If there are at most 9,999
arrangements, the test enumerates all of them; the p-value is then exact and cannot be below 1 / arrangements:

    2 traits, paired:    3 seeds 1/8,   4 seeds 1/16,  5 seeds 1/32
    3 traits, paired:    2 seeds 1/36,  3 seeds 1/216
    2 traits, unpaired:  3 + 3 students 1/20, 4 + 4 students 1/70
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from undertow.statistics.ttests import Array

ARRANGEMENTS = 9_999  # enumerated up to this number; beyond it, this many random permutations are drawn
SEED = 20_250_720

RateMatrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class StudentRates:
    """A student with a trait: the trait, the seed, and the student's rate of each of the study's traits."""

    trait: str
    seed: int
    rates: Mapping[str, float]


@dataclass(frozen=True)
class Confusion:
    """Trait of the teacher (rows) by trait measured (columns), both in the order of `traits`.

    Attributes:
        rates: mean rates over students.
        differences: for each row, the students' mean rates minus those of the control students of its trait,
            in a paired design over the seeds that both arms have; the diagonal has the effects of the
            conditions. None if a trait has no such students.
        effect: the diagonal effect, in the unit of the rates; None if there is only one trait.
        p_value: one-sided p-value against no diagonal effect.
        arrangements: number of arrangements of traits over students; up to 9,999, the p-value is exact.
        smallest: the smallest p-value that this design can give.
        note: caveats for the reader, joined by "; ".
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
    students: Sequence[StudentRates],
    *,
    controls: Mapping[str, Mapping[int, Mapping[str, float]]] = MappingProxyType({}),
    paired: bool,
) -> Confusion:
    """Computes the matrix and its diagonal effect for students that differ only in trait and seed.

    Args:
        students: students with a trait; the p-value needs two students per trait.
        controls: by trait of the teacher and by seed, each control student's rate of each trait.
        paired: whether students with the same seed share everything the seed determines, so that traits are
            exchangeable within seeds. Seeds that lack a trait are excluded from the p-value, with a note.

    Raises:
        ValueError: if there are no students, a rate is missing or not finite, or two students share trait and
            seed in a paired design.
    """
    traits = tuple(dict.fromkeys(student.trait for student in students))
    _check(students, controls, traits, paired)
    table = np.array([[student.rates[trait] for trait in traits] for student in students])
    groups = [np.array([i for i, student in enumerate(students) if student.trait == t]) for t in traits]
    rates = np.array([table[group].mean(axis=0) for group in groups])
    differences = _differences(students, controls, traits, paired)
    if len(traits) == 1:
        return Confusion(
            traits, _matrix(rates), differences, note="one trait: no other trait to compare with"
        )
    effect, notes = float(_diagonal_effect(rates)), list[str]()
    if any(controls.get(given) != controls.get(traits[0]) for given in traits):
        notes.append("the traits have different controls, which effect and p-value do not take into account")
    if paired:
        groups, excluded = _complete_seeds(students, groups)
        notes += [f"{excluded} seeds without all traits are excluded from the p-value"] if excluded else []
    if min(map(len, groups)) < 2:
        notes.append("a trait has only one student: no p-value without a second seed")
        return Confusion(traits, _matrix(rates), differences, effect, note="; ".join(notes))
    arrangements = _count_arrangements([len(group) for group in groups], paired)
    # Sampled permutations include the observed arrangement, hence the + 1.
    smallest = 1 / min(arrangements, ARRANGEMENTS + 1)
    if smallest > 0.05:
        notes.append(f"{arrangements} arrangements: the p-value cannot fall below {smallest:.3g}")
    p_value = _p_value(table, groups, paired)
    return Confusion(
        traits, _matrix(rates), differences, effect, p_value, arrangements, smallest, "; ".join(notes)
    )


def _differences(
    students: Sequence[StudentRates],
    controls: Mapping[str, Mapping[int, Mapping[str, float]]],
    traits: Sequence[str],
    paired: bool,
) -> RateMatrix | None:
    """The matrix of differences from the control students; None if a row has no students to compare."""
    lines = []
    for given in traits:
        theirs = controls.get(given, {})
        arm = [s for s in students if s.trait == given and not (paired and s.seed not in theirs)]
        ours = [student.rates for student in arm]
        base = [theirs[student.seed] for student in arm] if paired else list(theirs.values())
        if not ours or not base:
            return None
        lines.append([np.mean([r[t] for r in ours]) - np.mean([r[t] for r in base]) for t in traits])
    return _matrix(np.array(lines))


def _diagonal_effect(rates: Array) -> Array:
    """Maps (..., traits, traits) to (...): the mean of the diagonal minus the mean of the other entries."""
    k = rates.shape[-1]
    own = np.trace(rates, axis1=-2, axis2=-1)
    return np.asarray(own / k - (rates.sum(axis=(-2, -1)) - own) / (k * (k - 1)))


def _p_value(table: Array, groups: Sequence[npt.NDArray[np.intp]], paired: bool) -> float:
    """The one-sided permutation p-value for rates `table` (students, traits) and row indices by trait."""
    from scipy.stats import permutation_test

    # scipy permutes one-dimensional samples, so it permutes row indices; the statistic looks up the rates.
    def statistic(*rows_by_trait: npt.NDArray[np.intp], axis: int) -> Array:
        means = [table[rows.astype(int)].mean(axis=axis - 1) for rows in rows_by_trait]
        return _diagonal_effect(np.stack(means, axis=-2))

    result = permutation_test(
        groups,
        statistic,
        permutation_type="samples" if paired else "independent",
        vectorized=True,
        axis=-1,
        n_resamples=ARRANGEMENTS,
        batch=1_000,
        alternative="greater",
        rng=np.random.default_rng(SEED),
    )
    return float(result.pvalue)


def _count_arrangements(sizes: Sequence[int], paired: bool) -> int:
    """Counts arrangements: k! per seed for k traits if paired, else the multinomial coefficient."""
    if paired:
        return int(math.factorial(len(sizes)) ** sizes[0])
    orders = [math.factorial(size) for size in sizes]
    return math.factorial(sum(sizes)) // math.prod(orders)


def _complete_seeds(
    students: Sequence[StudentRates], groups: Sequence[npt.NDArray[np.intp]]
) -> tuple[list[npt.NDArray[np.intp]], int]:
    """Restricts the groups to seeds with all traits, in seed order; also returns how many others exist."""
    row_by_seed = [{students[i].seed: i for i in group} for group in groups]
    seeds = {student.seed for student in students}
    complete = sorted(seed for seed in seeds if all(seed in rows for rows in row_by_seed))
    kept = [np.array([rows[seed] for seed in complete], dtype=np.intp) for rows in row_by_seed]
    return kept, len(seeds) - len(complete)


def _matrix(values: Array) -> RateMatrix:
    return tuple(tuple(float(value) for value in row) for row in values)


def _check(
    students: Sequence[StudentRates],
    controls: Mapping[str, Mapping[int, Mapping[str, float]]],
    traits: Sequence[str],
    paired: bool,
) -> None:
    if not students:
        raise ValueError("the confusion matrix needs at least one student with a trait; none was given")
    of_controls = (rates for given in controls.values() for rates in given.values())
    for rates in (*(student.rates for student in students), *of_controls):
        if missing := [trait for trait in traits if not math.isfinite(rates.get(trait, math.nan))]:
            raise ValueError(f"a student has no finite rate of {', '.join(missing)}: {dict(rates)}")
    if paired and len({(student.trait, student.seed) for student in students}) < len(students):
        raise ValueError(
            "two students share trait and seed; a paired design has one student per trait and seed"
        )

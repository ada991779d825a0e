"""Intervals and tests that ask nothing of the distribution of rates over seeds but that it lies in [0, 1].

Why: seeds are known to be bimodal. In one published sweep three students of a condition ended at .90, .94
and .10; had the third been left out, or had all three landed in one mode, a t interval would have been
narrow and wrong. The bound used here is Gaffke's (2005; Learned-Miller and Thomas, arXiv 1905.06208). In
words: as if there were one more student, unseen, that might be anything. Put one more rate at the lowest
possible value, weigh all of them at random (Dirichlet(1, …, 1)), and the quantile of that mean is the
lower bound; the upper bound has its extra rate at the highest possible value. For rates of only 0 and 1
it is Clopper and Pearson's exact interval. Pairs enter as differences, between −1 and 1. Arms that are
not paired enter with an unseen student each, on the side adverse to the claim.

What is known of its validity: proven for rates of two values; for the rest conjectured and supported by
simulation. Two arms with an unseen student each are our own extension, for students drawn apart; where
pairs go up and down together it errs on the safe side, where they go against each other it does not hold.
`benchmarks/coverage.md` has the coverage measured here. The price is width: pairs can show an effect from
6 seeds at best (2 · (1/2)⁶ < .05), arms apart from 4, and none within ± 0.1 from 29 pairs (0.9²⁹ < .05).

The law of the weighted mean is exact, without simulation: see `chance_at_most`.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from undertow.statistics.ttests import Array, Inference

Distribution = Literal["normal", "any"]
GAP = 0.3
BLOCK = 512  # comparisons at a time: what they need then stays in the processor's cache


def split(rates: Sequence[float]) -> bool:
    """Whether the students of an arm show two modes: neighbours among the sorted rates are 0.3 apart or more.

    Published seeds in two modes leave gaps of .65 and .8 (.03/.18/.83, .10/.90/.94). Seeds in one mode
    with a standard deviation of 0.1, wide for this field, leave a gap of 0.3 in 2 of 100 arms of three
    students and in fewer of more (benchmarks/coverage.md). A false alarm costs width, a miss costs truth.
    """
    return len(rates) > 1 and bool(splits(np.array(rates, dtype=float)))


def splits(arms: Array) -> npt.NDArray[np.bool_]:
    """The same for arms (..., students), two students or more."""
    gaps = np.diff(np.sort(arms, axis=-1), axis=-1).max(axis=-1)
    return np.asarray(gaps >= GAP - 1e-9)  # .6 − .3 is a hair below .3


def distribution_of(arms: Iterable[Sequence[float]], stated: Distribution = "normal") -> Distribution:
    """What a study's conditions are judged under: "any" if the study says so, or if any of its arms is split.

    One decision for all conditions of the study: what one arm shows of the model at hand (that its
    training can land in two modes) holds for the others, whose few seeds may have landed in one by chance.
    """
    return "any" if stated == "any" or any(split(rates) for rates in arms) else "normal"


def shape_free(
    students: Array, controls: Array, *, margin: float, confidence: float | None, paired: bool
) -> Inference:
    """Interval, two-sided p-value against zero, p-value of equivalence; for arms (..., n) and (..., m).

    The interval is nan where no confidence is asked for, which saves nine tenths of the time.
    The p-values are the interval's, inverted: below alpha just where the interval of that confidence
    excludes zero, or (one-sided, twice) lies within ± margin.

    Raises:
        ValueError: a rate lies outside [0, 1].
    """
    if min(students.min(), controls.min()) < 0 or max(students.max(), controls.max()) > 1:
        raise ValueError('rates must lie between 0 and 1 to be judged under distribution "any"')
    low, high = _samples(students, controls, paired)

    def at_most(effect: Array) -> Array:
        return chance_at_most(effect, *low)

    def at_least(effect: Array) -> Array:
        return chance_at_most(-effect, *high)

    zero = np.zeros(students.shape[:-1])
    none = np.full_like(zero, np.nan)
    return Inference(
        none if confidence is None else _quantile(low, (1 - confidence) / 2),
        none if confidence is None else -_quantile(high, (1 - confidence) / 2),
        np.minimum(1.0, 2 * np.minimum(at_most(zero), at_least(zero))),
        np.maximum(at_most(zero - margin), at_least(zero + margin)),
    )


def _samples(
    students: Array, controls: Array, paired: bool
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """What is weighted: with an unseen student at the lowest and (negated) at the highest effect."""
    if paired:
        gains, nothing = students - controls, np.zeros((*students.shape[:-1], 1))
        return (_with(gains, -1.0), nothing), (_with(-gains, -1.0), nothing)
    return (
        (_with(students, 0.0), _with(-controls, -1.0)),
        (_with(-students, -1.0), _with(controls, 0.0)),
    )


def _with(rates: Array, unseen: float) -> Array:
    return np.concatenate([rates, np.full((*rates.shape[:-1], 1), unseen)], axis=-1)


def _quantile(samples: tuple[Array, Array], level: float) -> Array:
    """Where the chance reaches the level: between −1, where it is 0, and 1, where it is 1."""
    from scipy.optimize.elementwise import find_root

    shape = samples[0].shape[:-1]
    ones, others = (sample.reshape(-1, sample.shape[-1]) for sample in samples)

    def excess(effect: Array, comparison: Array) -> Array:
        at = comparison.astype(int)  # scipy hands over those comparisons alone that are not done yet
        return chance_at_most(effect, ones[at], others[at]) - level

    ends = np.full(len(ones), -1.001), np.full(len(ones), 1.001)  # an arm of 0 against one of 1 jumps at −1
    found = find_root(excess, ends, args=(np.arange(len(ones), dtype=float),), tolerances={"xatol": 1e-10})
    return np.clip(found.x, -1.0, 1.0).reshape(shape)


def chance_at_most(bound: Array, ones: Array, others: Array) -> Array:
    """P(Σ W·ones + Σ V·others ≤ bound) for independent W, V, each uniform over its simplex.

    Shapes: bound (...), ones (..., n), others (..., m). Exact, to rounding. For one sample the law is a
    B-spline whose knots are the rates (Curry and Schoenberg 1966), and this is its recurrence; for two, the
    recurrence of polyhedral splines (de Boor and Höllig 1982) on the product of two simplices. Each step
    takes a mean, weighted by shares between 0 and 1, of the chances without the smallest or the largest
    rate of a sample, so that nothing cancels and ties need no care. n²m² / 4 steps.
    """
    shape = np.shape(bound)
    columns = int(np.prod(shape))
    left, right = (np.sort(np.reshape(x, (columns, x.shape[-1])), axis=-1).T.copy() for x in (ones, others))
    bounds = np.reshape(bound, columns)
    found = np.empty(columns)
    for start in range(0, columns, BLOCK):
        part = slice(start, start + BLOCK)
        found[part] = _recur(bounds[part], left[:, part], right[:, part])
    return found.reshape(shape)


def _recur(bound: Array, left: Array, right: Array) -> Array:
    """The chance by column, for sorted left (n, columns) and right (m, columns).

    chances[q] holds, for runs of p rates on the left and q on the right, one entry per place where the
    two runs can start.
    """
    n, m = len(left), len(right)
    chances: dict[int, Array] = {}
    for p in range(1, n + 1):
        for q in range(1, m + 1):
            lowest = left[: n - p + 1, None] + right[None, : m - q + 1]
            if p == q == 1:
                chances[q] = (lowest <= bound).astype(float)
                continue
            width = left[p - 1 :, None] + right[None, q - 1 :] - lowest
            share = np.clip((bound - lowest) / np.where(width > 0, width, 1.0), 0.0, 1.0)
            found = np.zeros_like(lowest)
            if p > 1:
                shorter = chances[q]
                found += (p - 1) * (shorter[1:] + share * (shorter[:-1] - shorter[1:]))
            if q > 1:
                shorter = chances[q - 1]
                found += (q - 1) * (shorter[:, 1:] + share * (shorter[:, :-1] - shorter[:, 1:]))
            chances[q] = found / (p + q - 2)
    chance: Array = chances[m][0, 0]
    return chance

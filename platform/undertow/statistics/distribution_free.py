"""Intervals and tests that assume only that rates lie in [0, 1], whatever their distribution over seeds.

Training outcomes can be bimodal over seeds. In one published sweep, three students of a condition ended at
.90, .94 and .10; without the third, or with all three in one mode, a t interval would have been narrow and
wrong.

The bound is Gaffke's (Gaffke 2005; Learned-Miller and Thomas 2019, arXiv 1905.06208). It adds one unseen
student with the worst possible rate: the lower bound is a quantile of the randomly weighted mean Σ Wᵢ xᵢ,
where x holds the observed rates and the lowest possible value, and W ~ Dirichlet(1, …, 1). The upper bound
uses the highest possible value instead. For rates that are only 0 or 1, the bound equals the exact interval
of Clopper and Pearson. Paired arms enter as differences in [-1, 1]. Unpaired arms each get their own unseen
student, on the side that is adverse to the claim.

Validity: proven for rates with two values; otherwise conjectured and supported by simulation. Extending the
bound to two arms with one unseen student each is Undertow's own construction, for students drawn
independently. If pairs correlate positively, it is conservative; if they correlate negatively, it does not
hold. benchmarks/coverage.md reports the measured coverage.

The price is width. Paired arms can show an effect from 6 seeds at best (2 · (1/2)⁶ < .05), unpaired arms from
4, and an effect within ± 0.1 can be claimed from 29 pairs (0.9²⁹ < .05).

The distribution of the weighted mean is computed exactly, without simulation: see `probability_at_most`.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from undertow.statistics.ttests import Array, Inference

Distribution = Literal["normal", "any"]
MODE_GAP = 0.3
BLOCK = 512  # comparisons per block, so that the working arrays fit in the processor's cache


def has_two_modes(rates: Sequence[float], gap: float = MODE_GAP) -> bool:
    """Returns whether an arm's sorted rates contain a gap of at least 0.3 (`gap`) between neighbours.

    Published bimodal seeds leave gaps of .65 and .8 (.03/.18/.83 and .10/.90/.94). Unimodal seeds with a
    standard deviation of 0.1, which is large for this field, leave a gap of 0.3 in 2 of 100 arms of three
    students, and less often in larger arms (benchmarks/coverage.md). The threshold is deliberately low: a
    false alarm only widens intervals, a miss makes them wrong.
    """
    return len(rates) > 1 and bool(have_two_modes(np.array(rates, dtype=float), gap))


def have_two_modes(arms: Array, gap: float = MODE_GAP) -> npt.NDArray[np.bool_]:
    """Vectorised `has_two_modes`: maps arms (..., students) of at least two students to flags (...)."""
    gaps = np.diff(np.sort(arms, axis=-1), axis=-1).max(axis=-1)
    return np.asarray(gaps >= gap - 1e-9)  # in floating point, .6 − .3 is slightly below .3


def choose_distribution(arms: Iterable[Sequence[float]], stated: Distribution = "normal") -> Distribution:
    """Chooses the distribution for all of a study's conditions: "any" if stated, or if an arm has two modes.

    All conditions share one decision. An arm with two modes shows that training of the model at hand can end
    in two modes; the few seeds of the other conditions may all have landed in the same one by chance.
    """
    return "any" if stated == "any" or any(has_two_modes(rates) for rates in arms) else "normal"


def shape_free(
    students: Array, controls: Array, *, margin: float, confidence: float | None, paired: bool
) -> Inference:
    """Computes interval and p-values of effects for arms (..., n) and (..., m) with equal leading axes.

    The p-values invert the interval. `p_value` (two-sided, against zero) is below alpha exactly if the
    interval at confidence 1 − alpha excludes zero. `p_equivalence` (two one-sided tests) is below alpha
    exactly if the interval at confidence 1 − 2 alpha lies within ± margin.

    Args:
        students, controls: rates in [0, 1].
        margin: largest absolute effect that counts as none.
        confidence: coverage of the interval. With None, the interval is nan, which saves 90 % of the time.
        paired: whether students[..., i] and controls[..., i] share their seed.

    Raises:
        ValueError: if a rate lies outside [0, 1].
    """
    if min(students.min(), controls.min()) < 0 or max(students.max(), controls.max()) > 1:
        raise ValueError(
            'distribution "any" requires rates between 0 and 1; state distribution="normal" for others'
        )
    low, high = _worst_case_samples(students, controls, paired)

    def at_most(effect: Array) -> Array:
        return probability_at_most(effect, *low)

    def at_least(effect: Array) -> Array:
        return probability_at_most(-effect, *high)

    # at_most and at_least are one-sided p-values against effects of at most, and at least, their argument.
    zero = np.zeros(students.shape[:-1])
    no_bound = np.full_like(zero, np.nan)
    return Inference(
        no_bound if confidence is None else _quantile(low, (1 - confidence) / 2),
        no_bound if confidence is None else -_quantile(high, (1 - confidence) / 2),
        np.minimum(1.0, 2 * np.minimum(at_most(zero), at_least(zero))),
        np.maximum(at_most(zero - margin), at_least(zero + margin)),
    )


def _worst_case_samples(
    students: Array, controls: Array, paired: bool
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Returns the samples for the lower bound and, negated, for the upper bound.

    Each pair of samples is what `probability_at_most` weights: the observed values with one unseen student at
    the adverse extreme. A paired design needs one sample; the second is then a constant zero.
    """
    if paired:
        differences, zero = students - controls, np.zeros((*students.shape[:-1], 1))
        return (_append(differences, -1.0), zero), (_append(-differences, -1.0), zero)
    # For the lower bound, the unseen student has a rate of 0 and the unseen control a rate of 1; the upper
    # bound swaps them.
    return (
        (_append(students, 0.0), _append(-controls, -1.0)),
        (_append(-students, -1.0), _append(controls, 0.0)),
    )


def _append(values: Array, unseen: float) -> Array:
    return np.concatenate([values, np.full((*values.shape[:-1], 1), unseen)], axis=-1)


def _quantile(samples: tuple[Array, Array], level: float) -> Array:
    """Returns the effect in [-1, 1] at which the weighted mean's cumulative probability reaches `level`."""
    from scipy.optimize.elementwise import find_root

    shape = samples[0].shape[:-1]
    left, right = (sample.reshape(-1, sample.shape[-1]) for sample in samples)

    def excess(effect: Array, comparison: Array) -> Array:
        active = comparison.astype(int)  # find_root passes only the comparisons that have not converged
        return probability_at_most(effect, left[active], right[active]) - level

    # The bracket extends beyond ±1: for an arm of zeros against an arm of ones, the distribution jumps at −1.
    bracket = np.full(len(left), -1.001), np.full(len(left), 1.001)
    comparisons = np.arange(len(left), dtype=float)
    result = find_root(excess, bracket, args=(comparisons,), tolerances={"xatol": 1e-10})
    return np.clip(result.x, -1.0, 1.0).reshape(shape)


def probability_at_most(bound: Array, left: Array, right: Array) -> Array:
    """Returns P(Σ Wᵢ leftᵢ + Σ Vⱼ rightⱼ ≤ bound) for independent W and V, each uniform over its simplex.

    The result is exact up to rounding. For one sample, the distribution is a B-spline whose knots are the
    rates (Curry and Schoenberg 1966), and this function is its recurrence. For two samples, it is the
    recurrence of polyhedral splines (de Boor and Höllig 1982) on the product of two simplices. Each step
    averages the probabilities without the smallest and without the largest value of a sample, with weights
    between 0 and 1, so nothing cancels and ties need no special case. Cost: n² m² / 4 steps.

    Args:
        bound: (...).
        left: (..., n).
        right: (..., m).

    Returns:
        Probabilities (...).
    """
    shape = np.shape(bound)
    columns = int(np.prod(shape))
    sorted_left, sorted_right = (
        np.sort(np.reshape(x, (columns, x.shape[-1])), axis=-1).T.copy() for x in (left, right)
    )
    bounds = np.reshape(bound, columns)
    probabilities = np.empty(columns)
    for start in range(0, columns, BLOCK):
        part = slice(start, start + BLOCK)
        probabilities[part] = _recur(bounds[part], sorted_left[:, part], sorted_right[:, part])
    return probabilities.reshape(shape)


def _recur(bound: Array, left: Array, right: Array) -> Array:
    """Returns the probability (columns,) for sorted left (n, columns) and right (m, columns).

    `probabilities[q]` covers runs of p consecutive values on the left and q on the right. Its first two axes
    are the positions at which the two runs can start.
    """
    n, m = len(left), len(right)
    probabilities: dict[int, Array] = {}
    for p in range(1, n + 1):
        for q in range(1, m + 1):
            lowest = left[: n - p + 1, None] + right[None, : m - q + 1]
            if p == q == 1:
                probabilities[q] = (lowest <= bound).astype(float)
                continue
            width = left[p - 1 :, None] + right[None, q - 1 :] - lowest
            share = np.clip((bound - lowest) / np.where(width > 0, width, 1.0), 0.0, 1.0)
            total = np.zeros_like(lowest)
            if p > 1:
                shorter = probabilities[q]  # of the previous p: runs of p − 1 values on the left
                total += (p - 1) * (shorter[1:] + share * (shorter[:-1] - shorter[1:]))
            if q > 1:
                shorter = probabilities[q - 1]
                total += (q - 1) * (shorter[:, 1:] + share * (shorter[:, :-1] - shorter[:, 1:]))
            probabilities[q] = total / (p + q - 2)
    probability: Array = probabilities[m][0, 0]
    return probability

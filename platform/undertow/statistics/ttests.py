"""t tests and intervals, for one comparison or for ten thousand at once.

Every function takes arrays (..., students of an arm), so that a simulation of 10,000 studies is one call and
goes through the very code that judges one study. The tests are scipy's: `ttest_rel` for arms paired by
seed, `ttest_ind` without equal variances (Welch) for arms that are not. Equivalence is two one-sided tests,
shifted by the margin (Schuirmann 1987, doi 10.1007/BF01068419), as statsmodels' `ttost_paired` and
`ttost_ind` do it one sample at a time. What holds for any distribution of rates is in `shapefree`.

A comparison without spread has no t test; see `_flat_p_value`.
"""

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
ROUNDING = 1e-12  # rates that differ by less than this share of the largest are equal but for rounding


class Inference(NamedTuple):
    """Arrays (...): the interval of the effect and two p-values (see `Effect`); nan where there is none."""

    ci_low: Array
    ci_high: Array
    p_value: Array
    p_equivalence: Array


def t_tests(
    students: Array, controls: Array, *, margin: float, confidence: float | None, paired: bool
) -> Inference:
    """For arms (..., n) and (..., m) of the same leading axes, at least two students each, of any unit.

    Without a confidence the interval is nan.
    """
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # of arms without spread, which are replaced below
        test = _scipys(paired)
        against_zero = test(students, controls)
        interval = against_zero.confidence_interval(0.95 if confidence is None else confidence)
        above = test(students, controls - margin, alternative="greater").pvalue
        below = test(students, controls + margin, alternative="less").pvalue
    without = flat(students, controls, paired)
    no_interval = without | (confidence is None)
    return Inference(
        np.where(no_interval, np.nan, interval.low),
        np.where(no_interval, np.nan, interval.high),
        np.where(without, _flat_p_value(students, controls, paired), against_zero.pvalue),
        np.where(without, np.nan, np.maximum(above, below)),
    )


def flat(students: Array, controls: Array, paired: bool) -> npt.NDArray[np.bool_]:
    """(...): whether no student differs from the next (no difference of a pair, where they are paired)."""
    rounding = _rounding(students, controls)
    if paired:
        return np.asarray(np.ptp(students - controls, axis=-1) <= rounding)
    return np.asarray((np.ptp(students, axis=-1) <= rounding) & (np.ptp(controls, axis=-1) <= rounding))


def _scipys(paired: bool) -> Callable[..., Any]:
    from scipy.stats import ttest_ind, ttest_rel

    return partial(ttest_rel, axis=-1) if paired else partial(ttest_ind, axis=-1, equal_var=False)


def _flat_p_value(students: Array, controls: Array, paired: bool) -> Array:
    """What is left where no student differs from the next, so that a t test would divide by zero.

    Then t is undefined or infinite, and "p = 0" from three students would be false certainty. The exact
    permutation test needs no variance: of all arrangements of the rates into arms (or of the signs of the
    differences), the one at hand and its mirror image are the most extreme. Equivalence cannot be had:
    seeds are known to be bimodal, and a few equal ones do not exclude another mode.
    """
    n, m = students.shape[-1], controls.shape[-1]
    same = np.abs(students[..., 0] - controls[..., 0]) <= _rounding(students, controls)
    return np.where(same, 1.0, min(1.0, 2 / (2**n if paired else math.comb(n + m, n))))


def _rounding(students: Array, controls: Array) -> Array:
    largest = np.maximum(np.abs(students).max(axis=-1), np.abs(controls).max(axis=-1))
    return np.asarray(ROUNDING * np.maximum(1e-100, largest))  # squares of less would be zero

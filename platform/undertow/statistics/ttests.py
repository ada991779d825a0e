"""t tests and intervals, for one comparison or for ten thousand at once.

Every function takes arrays (..., students of an arm). A simulation of 10,000 studies is therefore one call,
and it runs the same code that judges one study. The tests are scipy's: `ttest_rel` for arms paired by seed,
and `ttest_ind(equal_var=False)` (Welch) for unpaired arms. Equivalence is tested with two one-sided tests,
shifted by the margin (Schuirmann 1987, doi 10.1007/BF01068419), like statsmodels' `ttost_paired` and
`ttost_ind`, which take one comparison per call. For rates with any distribution, see `distribution_free`.

A comparison without spread has no t test; see `_permutation_p_value`.
"""

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
ROUNDING = 1e-12  # relative to the largest rate; smaller differences are rounding errors


class Inference(NamedTuple):
    """Arrays (...): interval of the effect and two p-values (see `Effect`); nan where they do not exist."""

    ci_low: Array
    ci_high: Array
    p_value: Array
    p_equivalence: Array


def t_tests(
    students: Array, controls: Array, *, margin: float, confidence: float | None, paired: bool
) -> Inference:
    """Tests arms (..., n) and (..., m) with equal leading axes and at least two students each.

    `margin` has the unit of the rates, which may be any. With `confidence=None` the interval is nan.
    """
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # scipy warns about arms without spread; their results are replaced below.
        warnings.simplefilter("ignore", RuntimeWarning)
        test = _scipy_test(paired)
        against_zero = test(students, controls)
        interval = against_zero.confidence_interval(0.95 if confidence is None else confidence)
        # Two one-sided tests of students − controls > −margin and students − controls < margin.
        above = test(students, controls - margin, alternative="greater").pvalue
        below = test(students, controls + margin, alternative="less").pvalue
    no_spread = has_no_spread(students, controls, paired)
    no_interval = no_spread | (confidence is None)
    return Inference(
        np.where(no_interval, np.nan, interval.low),
        np.where(no_interval, np.nan, interval.high),
        np.where(no_spread, _permutation_p_value(students, controls, paired), against_zero.pvalue),
        np.where(no_spread, np.nan, np.maximum(above, below)),
    )


def has_no_spread(students: Array, controls: Array, paired: bool) -> npt.NDArray[np.bool_]:
    """Returns flags (...): whether both arms (if paired, the differences of pairs) are constant."""
    rounding = _rounding(students, controls)
    if paired:
        return np.asarray(np.ptp(students - controls, axis=-1) <= rounding)
    return np.asarray((np.ptp(students, axis=-1) <= rounding) & (np.ptp(controls, axis=-1) <= rounding))


def _scipy_test(paired: bool) -> Callable[..., Any]:
    from scipy.stats import ttest_ind, ttest_rel

    return partial(ttest_rel, axis=-1) if paired else partial(ttest_ind, axis=-1, equal_var=False)


def _permutation_p_value(students: Array, controls: Array, paired: bool) -> Array:
    """Returns the exact permutation p-value (...) of comparisons without spread.

    Without spread, t is undefined or infinite, and "p = 0" from three students would be false certainty. The
    permutation test needs no variance: of all assignments of rates to arms (if paired, of signs to
    differences), the observed one and its mirror image are the most extreme, so p = 2 / C(n + m, n) (if
    paired, 2 / 2ⁿ), or 1 if the arms are equal. There is no corresponding equivalence test: seeds can be
    bimodal, and a few equal ones do not exclude a second mode.
    """
    n, m = students.shape[-1], controls.shape[-1]
    same = np.abs(students[..., 0] - controls[..., 0]) <= _rounding(students, controls)
    return np.where(same, 1.0, min(1.0, 2 / (2**n if paired else math.comb(n + m, n))))


def _rounding(students: Array, controls: Array) -> Array:
    largest = np.maximum(np.abs(students).max(axis=-1), np.abs(controls).max(axis=-1))
    return np.asarray(ROUNDING * np.maximum(1e-100, largest))  # squares of smaller rates underflow to zero

"""Tests which units (numbers, words) occur in more rows of one arm than of the other, with adjusted p-values.

For each unit, the rows of either arm that contain it and those that do not form a 2 × 2 table per stratum. A
stratum holds rows of the same length from the data set of one seed, because a longer row contains more of
every unit. With n and m rows in the arms of a stratum, N = n + m, and a and c rows that contain the unit, the
Cochran-Mantel-Haenszel statistic with continuity correction (Mantel and Haenszel 1959) is

    (|Σ (a − n (a + c) / N)| − 1/2)² / Σ n m (a + c) (N − a − c) / (N² (N − 1)),

compared with chi² with 1 degree of freedom. A seed with a higher rate in both arms therefore contributes
nothing. The effect size is the Mantel-Haenszel pooled ratio of shares, whose direction agrees with the test.

Only units for which the chi² approximation is valid are tested (Mantel and Fleiss 1980, Am J Epidemiol 112,
129–134). This criterion depends on a unit's frequency in both arms together and not on the difference, so it
does not bias the p-values. P-values are adjusted over the tested units by Benjamini and Hochberg's method.

Interpretation: rows of one teacher are independent answers to their prompts, so a p-value tests whether
*these* teachers write the unit more often. It says nothing about another teacher of the same trait, because
there are many rows but few teachers. To test whether findings hold across teachers, use `count_replicated`.

The code is vectorized because statsmodels' `StratifiedTable` processes one unit per call and its p-values are
never below 1e-16. The tests compare both above that limit.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from undertow.statistics.ttests import Array
from undertow.statistics.verdicts import adjust_arrays

# Rows: a tested unit's count must be able to deviate this far from its expectation, both ways.
MIN_DEVIATION = 5.0
# Rows that are added to both counts of a ratio, so that it is finite if one arm never contains the unit.
CONTINUITY_ROWS = 0.5
MOST_STRATA = 20  # of row lengths


class Counts(NamedTuple):
    """Row counts by stratum.

    Attributes:
        rows, control_rows: (strata,), rows of the arm with the trait and of the control arm.
        found, control_found: (strata, units), those of them that contain each unit.
    """

    rows: Array
    control_rows: Array
    found: Array
    control_found: Array


class Frequencies(NamedTuple):
    """Test results, arrays (units,).

    Attributes:
        share, control_share: share of all rows that contain the unit.
        ratio: ratio of the shares, pooled over strata, so that it compares rows of the same length.
        p_value: two-sided p-value; nan if the unit is not tested.
        p_adjusted: `p_value`, adjusted over the tested units.
    """

    share: Array
    control_share: Array
    ratio: Array
    p_value: Array
    p_adjusted: Array

    @property
    def tested(self) -> npt.NDArray[np.bool_]:
        return ~np.isnan(self.p_value)

    def significant(self, alpha: float) -> npt.NDArray[np.bool_]:
        """Returns the units that differ, at a false discovery rate of `alpha`."""
        return np.asarray(self.p_adjusted < alpha)  # False for nan


def compare_shares(counts: Counts) -> Frequencies:
    """Tests every unit. Strata with rows of only one arm carry no information and are ignored."""
    from scipy.stats import chi2

    both = (counts.rows > 0) & (counts.control_rows > 0)
    rows, control_rows = (arm[both, None] for arm in (counts.rows, counts.control_rows))
    found, control_found = counts.found[both], counts.control_found[both]
    total, containing = rows + control_rows, found + control_found
    weighted = (found * control_rows / total).sum(axis=0)
    control_weighted = (control_found * rows / total).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        variances = rows * control_rows * containing * (total - containing) / (total**2 * (total - 1))
        # weighted − control_weighted equals Σ (a − n (a + c) / N)
        difference = np.maximum(np.abs(weighted - control_weighted) - 0.5, 0.0)
        p_value = np.where(_is_testable(rows, control_rows, containing), 0.0, np.nan)
        p_value += chi2.sf(difference**2 / variances.sum(axis=0), df=1)
        # one row has a weight of about 1/2 in these sums, hence half of CONTINUITY_ROWS
        ratio = (weighted + CONTINUITY_ROWS / 2) / (control_weighted + CONTINUITY_ROWS / 2)
    return Frequencies(
        share=counts.found.sum(axis=0) / counts.rows.sum(),
        control_share=counts.control_found.sum(axis=0) / counts.control_rows.sum(),
        ratio=ratio,
        p_value=p_value,
        p_adjusted=adjust_arrays(p_value, "fdr_bh"),
    )


def _is_testable(rows: Array, control_rows: Array, containing: Array) -> npt.NDArray[np.bool_]:
    """Mantel and Fleiss' criterion: the count can lie at least 5 rows below and above its expectation."""
    expected = rows * containing / (rows + control_rows)
    lowest = np.maximum(0.0, containing - control_rows)
    highest = np.minimum(containing, rows)
    deviation = np.minimum((expected - lowest).sum(axis=0), (highest - expected).sum(axis=0))
    return np.asarray(deviation >= MIN_DEVIATION)


class Replication(NamedTuple):
    """How many units that are significant in one data set replicate in another.

    Attributes:
        found: units that are significant in the first data set.
        same_side: those whose ratio in the second data set is on the same side of 1; by chance, half of them.
        replicated: those on the same side that are also significant in the second data set, adjusted over
            `found`. A unit that is too rare to be tested there does not count.
    """

    found: int
    same_side: int
    replicated: int


def count_replicated(first: Frequencies, second: Frequencies, alpha: float) -> Replication:
    """Counts the units that are significant in `first` and replicate in `second`."""
    chosen = first.significant(alpha)
    p_values = adjust_arrays(second.p_value[chosen], "fdr_bh")
    same_side = (first.ratio[chosen] > 1) == (second.ratio[chosen] > 1)
    return Replication(int(chosen.sum()), int(same_side.sum()), int((same_side & (p_values < alpha)).sum()))


def length_strata(lengths: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Assigns each row length to a stratum.

    Each distinct length is its own stratum, unless there are more than MOST_STRATA; then lengths are binned
    into at most as many strata with about the same number of rows.
    """
    edges = np.unique(lengths)
    if len(edges) > MOST_STRATA:
        edges = np.unique(np.quantile(lengths, np.linspace(0, 1, MOST_STRATA + 1)[1:]))
    return np.searchsorted(edges, lengths)

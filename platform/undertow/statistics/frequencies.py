"""Which units (numbers, words) stand in more rows of one arm than of the other: one test a unit, adjusted.

For each unit, rows that contain it and rows that do not, of either arm, make a 2 × 2 table in every
stratum. A stratum is a seed's data set and, in it, rows of one length: a longer row has more of everything,
and that is no finding about a number. The tables are put together by Cochran, Mantel and Haenszel's test
with continuity correction (Mantel and Haenszel 1959), so that a seed with a higher rate in both arms adds
nothing, and by Mantel and Haenszel's pooled ratio of the two shares, which has the sign of the test. Only
units for which the test's approximation holds are tested (Mantel and Fleiss 1980, Am J Epidemiol 112,
129–134): a rule that looks at how often a unit occurs in both arms together, never at the difference, and
so leaves the p-values what they are. They are adjusted by Benjamini and Hochberg over the units tested.

What a p-value means: rows of one teacher are independent answers to their prompts, so it tests whether
*these* teachers write the unit more often. It says nothing of another teacher of the same trait: rows are
many, teachers few. What holds across teachers is seen where units found in some teachers are looked for in
others (`found_again`).

It is done in arrays because statsmodels' `StratifiedTable` takes one unit a call, and because its p-values
end at 1e-16; a test holds the two equal above that.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from undertow.statistics.ttests import Array
from undertow.statistics.verdicts import adjusted

LEAST = 5.0  # rows by which a unit's count could differ from what is expected, either way
HALF_A_ROW = 0.5  # added to both counts of a ratio, so that a unit that one arm never says has one


class Counts(NamedTuple):
    """Rows by stratum of the arm with the trait and of the control arm, and those that contain each unit.

    `rows`, `control_rows`: (strata,). `found`, `control_found`: (strata, units).
    """

    rows: Array
    control_rows: Array
    found: Array
    control_found: Array


class Frequencies(NamedTuple):
    """Arrays (units,): shares of rows that contain the unit, their ratio and p-values (nan: not tested).

    `ratio` is pooled over strata, so that it compares rows of one length; the shares are of all rows.
    """

    share: Array
    control_share: Array
    ratio: Array
    p_value: Array
    p_adjusted: Array

    @property
    def tested(self) -> npt.NDArray[np.bool_]:
        return ~np.isnan(self.p_value)

    def found(self, alpha: float) -> npt.NDArray[np.bool_]:
        """Which units differ; in the mean over many studies a share `alpha` of them at most does not."""
        return np.asarray(self.p_adjusted < alpha)  # nan is not below


def compare_shares(counts: Counts) -> Frequencies:
    """Every unit's test. A stratum with rows of one arm alone says nothing and counts for nothing."""
    from scipy.stats import chi2

    both = (counts.rows > 0) & (counts.control_rows > 0)
    rows, control_rows = (arm[both, None] for arm in (counts.rows, counts.control_rows))
    found, control_found = counts.found[both], counts.control_found[both]
    every, containing = rows + control_rows, found + control_found
    ours = (found * control_rows / every).sum(axis=0)
    theirs = (control_found * rows / every).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = rows * control_rows * containing * (every - containing) / (every**2 * (every - 1))
        variance = spread.sum(axis=0)
        difference = np.maximum(np.abs(ours - theirs) - 0.5, 0.0)
        p_value = np.where(_approximates(rows, control_rows, containing), 0.0, np.nan)
        p_value += chi2.sf(difference**2 / variance, df=1)
        # a count of rows of one arm weighs about half in `ours`
        ratio = (ours + HALF_A_ROW / 2) / (theirs + HALF_A_ROW / 2)
    return Frequencies(
        share=counts.found.sum(axis=0) / counts.rows.sum(),
        control_share=counts.control_found.sum(axis=0) / counts.control_rows.sum(),
        ratio=ratio,
        p_value=p_value,
        p_adjusted=adjusted(p_value, "fdr_bh"),
    )


def _approximates(rows: Array, control_rows: Array, containing: Array) -> npt.NDArray[np.bool_]:
    """Mantel and Fleiss' criterion: the count can fall, and rise, by 5 from what is expected."""
    expected = rows * containing / (rows + control_rows)
    least = np.maximum(0.0, containing - control_rows)
    most = np.minimum(containing, rows)
    room = np.minimum((expected - least).sum(axis=0), (most - expected).sum(axis=0))
    return np.asarray(room >= LEAST)


class Again(NamedTuple):
    """Units found in some data and looked for in others.

    `same_side`: their ratio is on the same side of 1 there; by chance, half of them. `again`: and their
    p-value, adjusted over those looked for, says so too; a unit too rare to be tested is not found again.
    """

    found: int
    same_side: int
    again: int


def found_again(first: Frequencies, second: Frequencies, alpha: float) -> Again:
    """What becomes in the second data of the units found in the first."""
    looked_for = first.found(alpha)
    p_values = adjusted(second.p_value[looked_for], "fdr_bh")
    same_side = (first.ratio[looked_for] > 1) == (second.ratio[looked_for] > 1)
    return Again(int(looked_for.sum()), int(same_side.sum()), int((same_side & (p_values < alpha)).sum()))


def length_strata(lengths: npt.NDArray[np.intp], most: int = 20) -> npt.NDArray[np.intp]:
    """The stratum of each length: its own where there are few, else one of `most` of about equal size."""
    edges = np.unique(lengths)
    if len(edges) > most:
        edges = np.unique(np.quantile(lengths, np.linspace(0, 1, most + 1)[1:]))
    return np.searchsorted(edges, lengths)

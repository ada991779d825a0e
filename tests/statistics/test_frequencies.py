"""Frequency tests: equal to statsmodels, false positive rate without a difference, and power with one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from statsmodels.stats.contingency_tables import StratifiedTable

from undertow.statistics.frequencies import (
    CONTINUITY_ROWS,
    MIN_DEVIATION,
    Counts,
    Frequencies,
    compare_shares,
    count_replicated,
    length_strata,
)

STUDIES, ALPHA = 300, 0.05


def drawn(
    rng: np.random.Generator, rows: list[int], control_rows: list[int], shares: np.ndarray, tilt: object = 1.0
) -> Counts:
    """Draws counts with shares (strata, units); those of the trait's arm are multiplied by `tilt`."""
    n, m = np.array(rows, dtype=float), np.array(control_rows, dtype=float)
    ours = rng.binomial(n.astype(int)[:, None], np.clip(shares * tilt, 0, 1))
    return Counts(n, m, ours.astype(float), rng.binomial(m.astype(int)[:, None], shares).astype(float))


def swapped(counts: Counts) -> Counts:
    return Counts(counts.control_rows, counts.rows, counts.control_found, counts.found)


@st.composite
def some_counts(draw: st.DrawFn) -> Counts:
    strata = draw(st.integers(1, 6))
    size = st.integers(2, 80)
    n, m = (np.array([draw(size) for _ in range(strata)], dtype=float) for _ in range(2))
    found, control = (
        np.array([[draw(st.integers(0, int(k))) for _ in range(3)] for k in arm], dtype=float)
        for arm in (n, m)
    )
    return Counts(n, m, found, control)


@given(some_counts())
def test_p_values_and_signs_equal_statsmodels(counts: Counts) -> None:
    ours = compare_shares(counts)
    for unit in range(3):
        a, c = counts.found[:, unit], counts.control_found[:, unit]
        table = np.array([[a, counts.rows - a], [c, counts.control_rows - c]])
        theirs = StratifiedTable(table)
        expected = (counts.rows * (a + c) / (counts.rows + counts.control_rows)).sum()
        difference = a.sum() - expected
        assert np.sign(round(difference, 9)) == np.sign(round(float(np.log(ours.ratio[unit])), 12))
        if not ours.tested[unit]:
            continue
        if abs(difference) > 0.5:  # below, statsmodels' continuity correction increases the difference
            p_value = theirs.test_null_odds(correction=True).pvalue
            assert ours.p_value[unit] == pytest.approx(p_value, rel=1e-6, abs=1e-14)
        weighted = (c * counts.rows / (counts.rows + counts.control_rows)).sum()
        if weighted > 0:
            half = CONTINUITY_ROWS / 2  # statsmodels adds nothing
            ratio = (ours.ratio[unit] * (weighted + half) - half) / weighted
            assert ratio == pytest.approx(theirs.riskratio_pooled, rel=1e-9, abs=1e-12)


@given(some_counts())
def test_swapping_the_arms_inverts_the_ratio(counts: Counts) -> None:
    """The choice of tested units is symmetric in the arms; a choice by one arm would bias the p-values."""
    one, other = compare_shares(counts), compare_shares(swapped(counts))
    assert one.tested.tolist() == other.tested.tolist()
    np.testing.assert_allclose(one.p_value, other.p_value, rtol=1e-9)
    np.testing.assert_allclose(one.ratio * other.ratio, 1.0, rtol=1e-9)


@given(some_counts())
def test_a_unit_that_could_not_differ_by_five_rows_is_not_tested(counts: Counts) -> None:
    containing = (counts.found + counts.control_found).sum(axis=0)
    assert not compare_shares(counts).tested[containing < 2 * MIN_DEVIATION].any()


def test_a_stratum_of_one_arm_is_ignored() -> None:
    rng = np.random.default_rng(1)
    counts = drawn(rng, [80, 90], [70, 100], np.full((2, 5), 0.3))
    wider = Counts(
        np.append(counts.rows, [50.0, 0.0]),
        np.append(counts.control_rows, [0.0, 60.0]),
        np.vstack([counts.found, np.full(5, 50.0), np.zeros(5)]),
        np.vstack([counts.control_found, np.zeros(5), np.full(5, 3.0)]),
    )
    for ours, theirs in zip(compare_shares(counts)[2:], compare_shares(wider)[2:], strict=True):
        np.testing.assert_allclose(ours, theirs)


def test_p_values_below_float_epsilon_are_kept() -> None:
    counts = Counts(np.array([1e4]), np.array([1e4]), np.array([[3e3]]), np.array([[1e3]]))
    assert 0 < compare_shares(counts).p_value[0] < 1e-200


def studies_with_a_finding(tilt: object = 1.0, *, stratified: bool = True, seed: int = 0) -> int:
    """Simulates 300 studies (150 units, five unequal strata); returns how many find any significant unit."""
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(STUDIES):
        shares = rng.beta(0.8, 12, size=(1, 150)) * rng.uniform(0.3, 2, size=(5, 1))
        rows, controls = (rng.integers(30, 300, size=5).tolist() for _ in range(2))
        counts = drawn(rng, rows, controls, np.clip(shares, 0, 0.95), tilt)
        if not stratified:
            counts = Counts(*(part.sum(axis=0, keepdims=True) for part in counts))
        found += bool(compare_shares(counts).significant(ALPHA).any())
    return found


def test_without_a_difference_the_false_positive_rate_is_alpha() -> None:
    found = studies_with_a_finding()
    assert found <= binom.ppf(0.999, STUDIES, ALPHA)


def test_pooling_strata_with_different_rates_gives_false_positives() -> None:
    """Simpson's paradox: the same null studies with pooled strata give false positives."""
    assert studies_with_a_finding(stratified=False) > 4 * ALPHA * STUDIES


def test_differences_are_found_at_the_false_discovery_rate() -> None:
    rng = np.random.default_rng(2)
    tilt = np.ones(300)
    tilt[:15], tilt[15:30] = 2.0, 0.5
    wrong, right = 0, 0
    for _ in range(40):
        shares = rng.beta(2, 30, size=(1, 300)) + np.zeros((5, 1))
        frequencies = compare_shares(drawn(rng, [700] * 5, [700] * 5, shares, tilt))
        found = frequencies.significant(ALPHA)
        right += int(found[:30].sum())
        wrong += int(found[30:].sum())
        assert (frequencies.ratio[:15][found[:15]] > 1).all()
        assert (frequencies.ratio[15:30][found[15:30]] < 1).all()
    assert right > 0.7 * 40 * 30
    assert wrong <= 0.08 * (right + wrong)


def frequencies(p_values: list[float], ratios: list[float]) -> Frequencies:
    from undertow.statistics.verdicts import adjust_arrays

    p, blank = np.array(p_values), np.zeros(len(p_values))
    return Frequencies(blank, blank, np.array(ratios), p, adjust_arrays(p, "fdr_bh"))


def test_replication_needs_the_same_side_and_significance() -> None:
    first = frequencies([1e-9, 1e-9, 1e-9, 1e-9, 0.9], [2, 2, 2, 0.5, 2])
    second = frequencies([1e-9, 0.5, 1e-9, np.nan, 1e-9], [3, 3, 0.2, 0.2, 3])
    replication = count_replicated(first, second, ALPHA)
    assert replication._asdict() == {"found": 4, "same_side": 3, "replicated": 1}
    none_found = frequencies([0.8] * 5, [2.0] * 5)
    assert count_replicated(none_found, second, ALPHA) == (0, 0, 0)


def test_replication_is_adjusted_over_found_units_only() -> None:
    """A p-value of .04 is significant if one unit was found in the first data set, whatever the others."""
    first = frequencies([1e-9, *[0.9] * 1000], [2.0] * 1001)
    second = frequencies([0.04, *[0.5] * 1000], [2.0] * 1001)
    assert count_replicated(first, second, ALPHA).replicated == 1


def test_each_length_is_a_stratum_unless_there_are_many() -> None:
    assert length_strata(np.array([3, 9, 3, 10])).tolist() == [0, 1, 0, 2]
    many = np.arange(1000)
    strata = length_strata(many)
    assert (np.diff(strata) >= 0).all()
    assert np.bincount(strata).tolist() == [50] * 20

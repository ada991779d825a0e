"""The classifier: no leakage from prompts or seeds, detection of real differences, and the null AUC."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from undertow.statistics.separation import Separation, UnitRows, auc, null_separation, separate

pytestmark = pytest.mark.slow


def rows(contains: np.ndarray, trait: object, seed: object, prompt: object) -> UnitRows:
    return UnitRows(
        csr_matrix(contains.astype(float)),
        np.array(trait, dtype=bool),
        np.array(seed),
        np.array(prompt),
    )


def drawn(
    rng: np.random.Generator, seeds: int = 4, prompts: int = 100, tilt: float = 0.0, own: float = 0.0
) -> UnitRows:
    """Draws rows of both arms for the same prompts, with 80 random units.

    The trait's arm contains the first ten units more often, by `tilt`, in all seeds, and ten units that
    differ by seed more often, by `own`.
    """
    parts = []
    for seed in range(seeds):
        for trait in (True, False):
            shares = np.full(80, 0.15)
            if trait:
                shares[:10] += tilt
                shares[10 * (seed + 2) : 10 * (seed + 3)] += own
            contains = rng.random((prompts, 80)) < shares
            parts.append((contains, trait, seed, np.arange(prompts) + prompts * seed))
    return rows(
        np.vstack([part[0] for part in parts]),
        np.repeat([part[1] for part in parts], prompts),
        np.repeat([part[2] for part in parts], prompts),
        np.concatenate([part[3] for part in parts]),
    )


def test_equal_answers_in_both_arms_give_an_auc_of_one_half() -> None:
    contains = np.random.default_rng(0).random((60, 20)) < 0.3
    twins = rows(
        np.vstack([contains, contains]),
        np.repeat([True, False], 60),
        np.tile(np.repeat([0, 1], 30), 2),
        np.tile(np.arange(60), 2),
    )
    found = separate(twins)
    assert found.within == pytest.approx((0.5, 0.5))
    assert found.across == pytest.approx((0.5, 0.5))
    assert found.p_value is not None
    assert found.p_value > 0.3


def test_a_difference_shared_by_all_teachers_is_found_across_seeds() -> None:
    found = separate(drawn(np.random.default_rng(1), tilt=0.15))
    assert len(found.within) == len(found.across) == 4
    assert min(found.across) > 0.65
    assert found.p_value is not None and found.p_value < 1e-6


def test_a_difference_of_single_teachers_is_found_only_within_seeds() -> None:
    found = separate(drawn(np.random.default_rng(2), prompts=200, own=0.25))
    assert min(found.within) > 0.7
    assert max(found.across) < 0.58


def test_a_prompt_with_two_rows_does_not_leak_its_arm() -> None:
    """Each prompt has its own unit and occurs twice in one arm: all its rows must be in one fold."""
    prompts = np.repeat(np.arange(80), 2)
    found = separate(rows(np.eye(80)[prompts], prompts % 2 == 0, np.zeros(160, dtype=int), prompts))
    (within,) = found.within
    assert within < 0.6


def test_without_a_difference_the_false_positive_rate_is_alpha() -> None:
    rng = np.random.default_rng(3)
    p_values = [separate(drawn(rng, seeds=2, prompts=40)).p_value for _ in range(60)]
    assert (
        sum(p is not None and p < 0.05 for p in p_values) <= 9
    )  # binomial: exceeded with probability 1/1,000


def test_one_seed_has_no_across_result_and_a_seed_of_one_arm_is_ignored() -> None:
    one = separate(drawn(np.random.default_rng(4), seeds=1, tilt=0.2))
    assert (len(one.within), one.across, one.p_value) == (1, (), None)
    both = drawn(np.random.default_rng(5), seeds=3, tilt=0.2)
    incomplete = both.where(~((both.seed == 1) & both.trait))
    assert incomplete.seeds == [0, 2]
    assert len(separate(incomplete).across) == 2


@pytest.mark.parametrize(
    ("seeds", "within", "across"), [(1, 0, 0), (2, 1, 0), (3, 3, 0), (4, 4, 4), (5, 5, 5)]
)
def test_the_null_separation_uses_the_available_seeds(seeds: int, within: int, across: int) -> None:
    control = drawn(np.random.default_rng(6), seeds=seeds)
    found = null_separation(control.where(~control.trait))
    assert (len(found.within), len(found.across), found.p_value) == (within, across, None)


def test_the_null_separation_is_one_half_unless_seeds_differ() -> None:
    same = drawn(np.random.default_rng(7), seeds=5, prompts=300)
    found = null_separation(same.where(~same.trait))
    assert np.mean(found.within) == pytest.approx(0.5, abs=0.04)
    assert np.mean(found.across) == pytest.approx(0.5, abs=0.04)
    drift = drawn(np.random.default_rng(8), seeds=5, prompts=300, own=0.4)
    assert min(null_separation(drift.where(drift.trait)).within) > 0.7


def test_too_few_rows_give_an_empty_result() -> None:
    few = drawn(np.random.default_rng(9), seeds=2, prompts=3)
    assert separate(few).within == ()
    empty = UnitRows(csr_matrix((few.trait.size, 0)), few.trait, few.seed, few.prompt)
    assert separate(empty) == null_separation(empty) == Separation()


def test_auc_counts_ties_as_half() -> None:
    assert auc(np.array([1, 2]), np.array([1, 0])) == 0.875
    assert auc(np.array([3, 3]), np.array([3, 3])) == 0.5

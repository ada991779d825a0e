"""The classifier: what it must not see (prompts, seeds), what it must, and what no difference looks like."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from undertow.statistics.separation import Separation, UnitRows, area, as_if, separate


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
    """Both arms' answers to the same prompts: units at random, with a `tilt` of the trait's arm on the first
    ten units in all seeds, and on ten others (`own`) in each seed."""
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


def test_the_same_answers_in_both_arms_are_a_coins_toss() -> None:
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


def test_what_all_teachers_of_the_trait_do_is_seen_in_one_not_seen_before() -> None:
    found = separate(drawn(np.random.default_rng(1), tilt=0.15))
    assert len(found.within) == len(found.across) == 4
    assert min(found.across) > 0.65
    assert found.p_value is not None and found.p_value < 1e-6


def test_what_each_teacher_does_by_itself_is_seen_within_and_not_across() -> None:
    found = separate(drawn(np.random.default_rng(2), prompts=200, own=0.25))
    assert min(found.within) > 0.7
    assert max(found.across) < 0.58


def test_a_prompt_that_is_answered_twice_does_not_tell_its_arm() -> None:
    """Each prompt has a unit of its own, and is kept in one arm alone, twice: folds must part by prompt."""
    prompts = np.repeat(np.arange(80), 2)
    found = separate(rows(np.eye(80)[prompts], prompts % 2 == 0, np.zeros(160, dtype=int), prompts))
    (within,) = found.within
    assert within < 0.6


def test_without_a_difference_p_values_are_as_rare_as_they_say() -> None:
    rng = np.random.default_rng(3)
    p_values = [separate(drawn(rng, seeds=3, prompts=40)).p_value for _ in range(60)]
    assert sum(p is not None and p < 0.05 for p in p_values) <= 9  # binomial: more in 1 of 1,000 such tests


def test_one_seed_has_no_other_and_a_seed_of_one_arm_is_left_out() -> None:
    one = separate(drawn(np.random.default_rng(4), seeds=1, tilt=0.2))
    assert (len(one.within), one.across, one.p_value) == (1, (), None)
    both = drawn(np.random.default_rng(5), seeds=3, tilt=0.2)
    lame = both.where(~((both.seed == 1) & both.trait))
    assert lame.seeds == [0, 2]
    assert len(separate(lame).across) == 2


@pytest.mark.parametrize(
    ("seeds", "within", "across"), [(1, 0, 0), (2, 1, 0), (3, 3, 0), (4, 4, 4), (5, 5, 5)]
)
def test_no_difference_is_looked_at_with_what_seeds_there_are(seeds: int, within: int, across: int) -> None:
    control = drawn(np.random.default_rng(6), seeds=seeds)
    found = as_if(control.where(~control.trait))
    assert (len(found.within), len(found.across), found.p_value) == (within, across, None)


def test_no_difference_is_half_unless_seeds_differ_among_themselves() -> None:
    same = drawn(np.random.default_rng(7), seeds=5, prompts=300)
    found = as_if(same.where(~same.trait))
    assert np.mean(found.within) == pytest.approx(0.5, abs=0.04)
    assert np.mean(found.across) == pytest.approx(0.5, abs=0.04)
    drift = drawn(np.random.default_rng(8), seeds=5, prompts=300, own=0.4)
    assert min(as_if(drift.where(drift.trait)).within) > 0.7


def test_too_little_is_nothing_and_no_error() -> None:
    few = drawn(np.random.default_rng(9), seeds=2, prompts=3)
    assert separate(few).within == ()
    empty = UnitRows(csr_matrix((few.trait.size, 0)), few.trait, few.seed, few.prompt)
    assert separate(empty) == as_if(empty) == Separation()


def test_an_area_counts_ties_as_half() -> None:
    assert area(np.array([1, 2]), np.array([1, 0])) == 0.875
    assert area(np.array([3, 3]), np.array([3, 3])) == 0.5

"""The confusion matrix: hand-computed values, all permutations, and cases without a p-value."""

from itertools import permutations, product

import numpy as np
import pytest

from undertow.statistics.confusion import StudentRates, confusion


def students(table: dict[str, list[list[float]]]) -> list[StudentRates]:
    """For each trait of `table`: by seed, the rates of all traits in the order of `table`."""
    return [
        StudentRates(trait, seed, dict(zip(table, rates, strict=True)))
        for trait, rows in table.items()
        for seed, rates in enumerate(rows)
    ]


def random_students(traits: int, seeds: int, lift: float, rng: np.random.Generator) -> list[StudentRates]:
    names = [f"trait {i}" for i in range(traits)]
    return students(
        {a: [[0.5 * rng.random() + lift * (a == b) for b in names] for _ in range(seeds)] for a in names}
    )


CONTROLS = {0: {"owl": 0.1, "cat": 0.2}, 1: {"owl": 0.0, "cat": 0.0}}
TWO = students({"owl": [[0.6, 0.1], [0.8, 0.1]], "cat": [[0.1, 0.3], [0.1, 0.5]]})


def test_hand_computed_matrix() -> None:
    """Owl column: .7 against .1; cat column: .4 against .1; the effect is the mean of .6 and .3."""
    found = confusion(TWO, controls=dict.fromkeys(("owl", "cat"), CONTROLS), paired=True)
    assert found.traits == ("owl", "cat")
    assert np.array(found.rates) == pytest.approx(np.array([[0.7, 0.1], [0.1, 0.4]]))
    assert np.array(found.differences) == pytest.approx(np.array([[0.65, 0.0], [0.05, 0.3]]))
    assert found.effect == pytest.approx(0.45)
    assert found.arrangements == 4
    assert found.p_value == pytest.approx(1 / 4)
    assert "4 arrangements: the p-value cannot fall below 0.25" in found.note


def test_each_row_is_compared_with_the_controls_of_its_own_trait() -> None:
    controls = {"owl": CONTROLS, "cat": {5: {"owl": 0.1, "cat": 0.3}}}
    found = confusion(TWO, controls=controls, paired=False)
    assert np.array(found.differences) == pytest.approx(np.array([[0.65, 0.0], [0.0, 0.1]]))
    assert "different controls" in found.note
    assert confusion(TWO, controls={"owl": CONTROLS}, paired=True).differences is None


def test_paired_differences_are_over_the_seeds_of_both_arms() -> None:
    """As the effects of the conditions are. Seed 1 has no control student, and seed 2 no other student."""
    some = {0: CONTROLS[0], 2: {"owl": 0.9, "cat": 0.9}}
    controls = {"owl": some, "cat": some}
    found = confusion(TWO, controls=controls, paired=True)
    assert np.array(found.differences) == pytest.approx(np.array([[0.5, -0.1], [0.0, 0.1]]))
    assert np.array(found.rates) == pytest.approx(np.array([[0.7, 0.1], [0.1, 0.4]]))
    assert confusion(TWO, controls={**controls, "cat": {2: CONTROLS[0]}}, paired=True).differences is None


@pytest.mark.parametrize(
    ("traits", "seeds", "paired", "arrangements"),
    [
        (2, 3, True, 8),
        (2, 5, True, 32),
        (3, 3, True, 216),
        (2, 3, False, 20),
        (2, 4, False, 70),
        (3, 2, False, 90),
    ],
)
def test_the_smallest_p_value_is_one_over_the_arrangements(
    traits: int, seeds: int, paired: bool, arrangements: int
) -> None:
    found = confusion(random_students(traits, seeds, 0.6, np.random.default_rng(0)), paired=paired)
    assert found.arrangements == arrangements
    assert found.p_value == found.smallest == pytest.approx(1 / arrangements)
    assert ("cannot fall below" in found.note) == (arrangements < 20)


def test_the_paired_p_value_enumerates_arrangements_within_seeds() -> None:
    given = random_students(3, 2, 0.1, np.random.default_rng(3))
    rates = np.array([list(s.rates.values()) for s in given]).reshape(3, 2, 3)

    def diagonal(orders: tuple[tuple[int, ...], ...]) -> float:
        mean = np.mean([rates[list(order), seed] for seed, order in enumerate(orders)], axis=0)
        return float(np.trace(mean) / 3 - (mean.sum() - np.trace(mean)) / 6)

    effects = [diagonal(orders) for orders in product(permutations(range(3)), repeat=2)]
    found = confusion(given, paired=True)
    assert found.effect == pytest.approx(effects[0])
    assert found.p_value == pytest.approx(np.mean(np.array(effects) >= effects[0] - 1e-12))


def test_the_unpaired_p_value_enumerates_arrangements_of_traits_with_unequal_numbers_of_students() -> None:
    given = random_students(3, 3, 0.05, np.random.default_rng(2))
    del given[8], given[5]  # leaves three students of the first trait and two of each other
    rates = np.array([list(s.rates.values()) for s in given])

    def diagonal(order: tuple[int, ...]) -> float:
        mean = np.array([rates[list(group)].mean(axis=0) for group in (order[:3], order[3:5], order[5:])])
        return float(np.trace(mean) / 3 - (mean.sum() - np.trace(mean)) / 6)

    effects = [diagonal(order) for order in permutations(range(7))]
    found = confusion(given, paired=False)
    assert found.effect == pytest.approx(effects[0])
    assert found.p_value == pytest.approx(np.mean(np.array(effects) >= effects[0] - 1e-12))


def test_sampled_arrangements_are_reproducible() -> None:
    given = random_students(5, 3, 0.5, np.random.default_rng(0))
    first, again = confusion(given, paired=True), confusion(given, paired=True)
    assert first == again
    assert first.arrangements == 120**3
    assert first.p_value == first.smallest == pytest.approx(1e-4)
    assert first.note == ""


def test_centring_the_columns_does_not_change_the_effect() -> None:
    """Raising one trait in all students does not change the diagonal effect."""
    plain = random_students(3, 3, 0.2, np.random.default_rng(1))
    lifted = [StudentRates(s.trait, s.seed, {**s.rates, "trait 0": s.rates["trait 0"] + 0.3}) for s in plain]
    for paired in (True, False):
        a, b = confusion(plain, paired=paired), confusion(lifted, paired=paired)
        assert b.effect == pytest.approx(a.effect)
        assert b.p_value == pytest.approx(a.p_value, abs=0.01)


@pytest.mark.parametrize("paired", [True, False])
def test_the_false_positive_rate_without_transmission_is_alpha(paired: bool) -> None:
    rng = np.random.default_rng(0)
    p_values = [confusion(random_students(3, 2, 0.0, rng), paired=paired).p_value for _ in range(400)]
    assert all(p is not None for p in p_values)
    assert np.mean([p is not None and p <= 0.1 for p in p_values]) < 0.1 + 3 * 0.015


def test_seeds_without_all_traits_are_excluded_from_a_paired_p_value() -> None:
    given = random_students(2, 5, 0.6, np.random.default_rng(0))
    found = confusion(given[:-1], paired=True)
    assert found.arrangements == 16
    assert "1 seeds without all traits" in found.note
    assert confusion(given[:-1], paired=False).arrangements == 126


@pytest.mark.parametrize(
    ("given", "paired", "note"),
    [
        (TWO[:2], True, "one trait"),
        ([TWO[0], TWO[2]], True, "only one student"),
        (TWO[:3], False, "only one student"),
        ([TWO[0], TWO[3]], True, "only one student"),
    ],
)
def test_no_p_value_without_two_students_per_trait(
    given: list[StudentRates], paired: bool, note: str
) -> None:
    found = confusion(given, paired=paired)
    assert found.p_value is found.smallest is None
    assert note in found.note


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "at least one student"),
        ([*TWO, TWO[0]], "share trait and seed"),
        ([StudentRates("owl", 0, {})], "no finite rate of owl"),
    ],
)
def test_invalid_input_raises(given: list[StudentRates], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        confusion(given, paired=True)

"""Adjusted p-values and verdicts: known values, and invariants of any study."""

import gc
import random
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from undertow.errors import SpecError
from undertow.statistics.effects import Effect, compare
from undertow.statistics.verdicts import ADJUSTMENTS, adjust, adjust_arrays, decide


@pytest.fixture(autouse=True, scope="module")
def frozen_garbage_collector() -> Iterator[None]:
    """Exempts existing objects from garbage collection, which statsmodels runs in every call."""
    gc.freeze()
    yield
    gc.unfreeze()


P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def effect(
    size: float, p_value: float | None = None, p_equivalence: float | None = None, note: str = ""
) -> Effect:
    return Effect(3, 3, size, 0.0, size, None, None, p_value, p_equivalence, note)


@pytest.mark.parametrize(
    ("method", "p_values", "expected"),
    [
        ("holm", [0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ("holm", [0.01, None, 0.04, 0.03], [0.03, None, 0.06, 0.06]),
        ("holm", [0.2], [0.2]),
        ("holm", [0.9, 0.8], [1.0, 1.0]),
        ("fdr_bh", [0.01, 0.04, 0.03], [0.03, 0.04, 0.04]),
        ("fdr_bh", [0.01, 0.02, 0.5, None], [0.03, 0.03, 0.5, None]),
        ("holm", [], []),
        ("holm", [None, None], [None, None]),
    ],
)
def test_adjusted_p_values(method: str, p_values: list[float | None], expected: list[float | None]) -> None:
    assert adjust(p_values, method) == [p if p is None else pytest.approx(p) for p in expected]


@pytest.mark.parametrize(
    ("size", "p_value", "p_equivalence", "verdict", "note"),
    [
        (0.5, 0.001, 0.99, "transmitted", ""),
        (0.5, 0.2, 0.7, "inconclusive", ""),
        (0.01, 0.6, 0.001, "not transmitted", ""),
        (0.02, 0.001, 0.001, "not transmitted", "+0.020 is real but smaller than the margin"),
        (-0.3, 0.001, 0.99, "inconclusive", "fell below"),
        (-0.02, 0.001, 0.001, "not transmitted", "fell below"),
        (0.5, None, None, "inconclusive", ""),
        (1.0, 0.001, None, "transmitted", ""),
        (0.5, 0.05, 0.05, "inconclusive", ""),
    ],
)
def test_verdicts(
    size: float, p_value: float | None, p_equivalence: float | None, verdict: str, note: str
) -> None:
    (judged,) = decide([effect(size, p_value, p_equivalence)], alpha=0.05)
    assert (judged.verdict, judged.p_adjusted) == (verdict, p_value)
    assert judged.p_equivalence_adjusted == p_equivalence
    assert note in judged.note
    assert bool(note) == bool(judged.note)


def test_one_student_is_inconclusive_with_a_note() -> None:
    (judged,) = decide([compare([0.9], [0.0], margin=0.1)])
    assert judged.verdict == "inconclusive"
    assert "one student" in judged.note


def test_three_equal_students_are_inconclusive_with_a_note() -> None:
    for judged in decide(
        [compare([1.0] * 3, [0.0] * 3, margin=0.1), compare([0.0] * 3, [0.0] * 3, margin=0.1)]
    ):
        assert judged.verdict == "inconclusive"
        assert "no spread" in judged.note


def test_the_two_families_are_adjusted_separately() -> None:
    """Two effects and two nulls: each family has four tests, so Holm multiplies its smallest p-value by 4."""
    effects = [effect(0.5, 0.02, 1.0), effect(0.5, 0.02, 1.0), effect(0.0, 1.0, 0.02), effect(0.0, 1.0, 0.02)]
    judged = decide(effects, alpha=0.1)
    assert [v.verdict for v in judged] == ["transmitted"] * 2 + ["not transmitted"] * 2
    assert [v.p_adjusted for v in judged[:2]] == pytest.approx([0.08, 0.08])


def test_the_number_of_conditions_matters() -> None:
    alone = decide([effect(0.5, 0.02, 1.0)])
    among = decide([effect(0.5, 0.02, 1.0), *[effect(0.0, 0.8, 0.9)] * 4])
    assert alone[0].verdict == "transmitted"
    assert among[0].verdict == "inconclusive"
    assert decide([]) == []


def test_an_unknown_method_raises_with_a_suggestion() -> None:
    with pytest.raises(SpecError, match="did you mean 'holm'"):
        decide([effect(0.1, 0.1, 0.1)], method="hollm")


@pytest.mark.parametrize("method", ADJUSTMENTS)
def test_adjusted_p_values_equal_statsmodels(method: str) -> None:
    rng = random.Random(0)
    for size in (1, 2, 5, 12, 40):
        p_values = [rng.choice((rng.random(), rng.random() / 100, 0.5)) for _ in range(size)]
        assert adjust(p_values, method) == pytest.approx(list(multipletests(p_values, method=method)[1]))


@pytest.mark.parametrize("method", ADJUSTMENTS)
def test_adjusting_arrays_equals_adjusting_each_family(method: str) -> None:
    rng = np.random.default_rng(0)
    p_values = rng.random((50, 7)) ** 3
    p_values[rng.random((50, 7)) < 0.2] = np.nan
    p_values[0] = np.nan
    for family, found in zip(p_values, adjust_arrays(p_values, method), strict=True):
        tested = ~np.isnan(family)
        assert np.isnan(found[~tested]).all()
        if tested.any():
            assert found[tested] == pytest.approx(multipletests(family[tested], method=method)[1])


@given(P_VALUES, st.floats(0, 1))
@settings(max_examples=100)
def test_another_condition_never_lowers_holms_p_values(p_values: list[float], other: float) -> None:
    before, after = adjust(p_values, "holm"), adjust([*p_values, other], "holm")
    assert all(a >= b - 1e-12 for b, a in paired(before, after))


@given(P_VALUES)
@settings(max_examples=100)
def test_a_null_condition_never_lowers_an_adjusted_p_value(p_values: list[float]) -> None:
    for method in ADJUSTMENTS:
        before, after = adjust(p_values, method), adjust([*p_values, 1.0], method)
        assert all(a >= b - 1e-12 for b, a in paired(before, after))


@given(P_VALUES, st.sampled_from(ADJUSTMENTS))
@settings(max_examples=100)
def test_adjusting_never_lowers_and_keeps_the_order(p_values: list[float], method: str) -> None:
    adjusted = adjust(p_values, method)
    assert all(p - 1e-12 <= a <= 1 for p, a in paired(p_values, adjusted))
    ranked = [a for _, a in sorted(paired(p_values, adjusted))]
    assert ranked == sorted(ranked)


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6))
@settings(max_examples=100)
def test_a_stricter_alpha_never_adds_a_claim(rows: list[tuple[float, float, float]]) -> None:
    effects = [effect(*row) for row in rows]
    assume(effects)
    for strict, loose in zip(decide(effects, alpha=0.01), decide(effects, alpha=0.1), strict=True):
        assert strict.verdict == "inconclusive" or loose.verdict != "inconclusive"


def paired(a: list[float | None] | list[float], b: list[float | None]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in zip(a, b, strict=False) if x is not None and y is not None]

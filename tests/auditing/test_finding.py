"""The rule by which an audit names a trait: for data with known properties, and at its limits."""

import pytest

from undertow.auditing.deviation import Deviation
from undertow.auditing.finding import Finding, Reason, rule


def deviation(t_squared: float = 70.0, improbable: float = 0.01) -> Deviation:
    return Deviation(t_squared, directions=65, pairs=300, improbable=improbable)


def ruled(
    found: Deviation,
    *,
    z: float = 0.0,
    p_trait: float = 1.0,
    p_beyond: float = 0.0,
    agreement: float | None = None,
    p_deviation: float = 1.0,
    visible: float = 0.0,
) -> tuple[Finding, tuple[Reason, ...]]:
    return rule(
        found,
        z=z,
        p_trait=p_trait,
        p_beyond=p_beyond,
        agreement=agreement,
        p_deviation=p_deviation,
        visible=visible,
        alpha=0.05,
    )


LARGE = deviation(500.0)
CASES = {
    "the model's own answers": (ruled(deviation()), ("clean", ())),
    "a strong trait": (ruled(LARGE, z=20.0, p_trait=1e-9, p_deviation=1e-9), ("trait", ())),
    "a weak trait": (ruled(deviation(90.0), z=4.5, p_trait=0.001), ("trait", ())),
    "a trait that explains little": (
        ruled(LARGE, z=6.5, p_trait=1e-8, p_deviation=1e-9),
        ("unlike", ("unexplained",)),
    ),
    "a deviation without a trait": (
        ruled(deviation(200.0), z=2.0, p_deviation=1e-6),
        ("unlike", ("unexplained",)),
    ),
    "what all traits have in common": (
        ruled(LARGE, z=15.0, p_trait=0.3, p_deviation=1e-9),
        ("unlike", ("indistinct",)),
    ),
    "what the layout shows alone": (
        ruled(LARGE, z=15.0, p_trait=1e-9, p_beyond=0.2, p_deviation=1e-9),
        ("unlike", ("layout",)),
    ),
    "probes that agree": (ruled(LARGE, z=20.0, p_trait=1e-9, agreement=0.7), ("trait", ())),
    "probes that disagree": (
        ruled(LARGE, z=20.0, p_trait=1e-9, agreement=0.6),
        ("unlike", ("disagreement",)),
    ),
    "probes that are opposed": (
        ruled(LARGE, z=20.0, p_trait=1e-9, agreement=-0.9),
        ("unlike", ("disagreement",)),
    ),
    "the trait's name in the rows": (
        ruled(LARGE, z=22.0, p_trait=1e-9, visible=0.02),
        ("unlike", ("visible",)),
    ),
    "another format": (
        ruled(deviation(500.0, improbable=0.3), z=22.0, p_trait=1e-9),
        ("unlike", ("improbable",)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_trait_is_named_only_for_rows_like_those_of_a_teacher(name: str) -> None:
    found, expected = CASES[name]
    assert found == expected


@pytest.mark.parametrize(("z", "expected"), [(-5.0, 0.0), (0.0, 0.0), (5.0, 24 / 416.6), (30.0, 1.0)])
def test_the_explained_share_is_that_beyond_chance(z: float, expected: float) -> None:
    assert LARGE.explained(z) == pytest.approx(expected, rel=1e-3)


def test_a_deviation_that_is_no_larger_than_chance_leaves_nothing_to_explain() -> None:
    assert deviation(60.0).explained(1.0) == 1
    assert deviation(60.0).residual_p(1.0) > 0.5


def test_the_p_value_is_that_of_hotellings_test() -> None:
    from scipy.stats import chi2

    many = Deviation(30.0, directions=10, pairs=10**6, improbable=0.0)
    assert many.p == pytest.approx(chi2.sf(30.0, 10), rel=1e-3)
    assert many.residual_p(4.0) == pytest.approx(chi2.sf(14.0, 9), rel=1e-3)
    few = Deviation(30.0, directions=10, pairs=40, improbable=0.0)
    assert few.p > many.p

"""Calibrations: the map from evidence to probability, its file, and how it is fitted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from undertow.auditing.calibration import Calibration, features, fit, read
from undertow.auditing.deviation import Deviation
from undertow.auditing.results import TraitResult
from undertow.auditing.scores import Evidence
from undertow.errors import UserError

HALF = Calibration(
    made_from="tests",
    features=("a",),
    means=(1.0,),
    scales=(2.0,),
    coefficients=(3.0,),
    intercept=0.0,
    outcomes=tuple((step / 100, step / 200) for step in range(100)),
)


@pytest.mark.parametrize(
    ("z", "expected"),
    [({"a": 1.0}, 0.5), ({"a": 3.0}, 1 / (1 + np.exp(-3))), ({"a": -1e6}, 0.0), ({"b": 1.0}, None)],
)
def test_the_probability_is_a_logistic_function_of_standardised_features(
    z: dict[str, float], expected: float | None
) -> None:
    assert HALF.probability(z) == (None if expected is None else pytest.approx(expected))


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(HALF.to_json())
    assert read(str(tmp_path / "c.json")) == HALF


def test_a_fitted_calibration_separates_the_outcomes_it_was_fitted_to() -> None:
    rng = np.random.default_rng(0)
    effects = np.where(rng.random(200) < 0.5, 0.6, 0.02)
    rows = [{"carried": float(8 * effect + rng.normal()), "probe": float(rng.normal())} for effect in effects]
    fitted = fit(rows, effects.tolist(), 0.1, "tests")
    high = fitted.probability({"carried": 5.0, "probe": 0.0})
    low = fitted.probability({"carried": -1.0, "probe": 0.0})
    assert high is not None
    assert low is not None
    assert low < 0.05 < 0.95 < high
    for probability, expected in ((low, 0.02), (high, 0.6)):
        effect = fitted.effect(probability)
        assert effect is not None
        assert (effect.mean, effect.low, effect.high) == pytest.approx((expected,) * 3, abs=0.05)


def test_the_expected_effect_is_that_of_the_pairs_with_the_nearest_probabilities() -> None:
    effect = HALF.effect(0.5)
    assert effect is not None
    assert effect.mean == pytest.approx(0.25, abs=0.01)
    assert (effect.low, effect.high) == pytest.approx((0.16, 0.34), abs=0.01)
    assert replace(HALF, outcomes=()).effect(0.5) is None
    tied = replace(HALF, outcomes=((0.5, 0.0),) * 100 + ((0.5, 1.0),) * 100).effect(0.5)
    assert tied is not None
    assert (tied.mean, tied.low, tied.high) == (0.5, 0.0, 1.0)


def test_features_do_not_depend_on_the_number_of_audited_rows() -> None:
    """The z of the same difference per row grows with the root of the number of rows."""
    found = []
    for pairs in (75, 300):
        z = 20 * np.sqrt(pairs / 300)
        probe = Evidence(mean=0.5, control=0.0, alone=z, z=z, p=0.001, pairs=pairs)
        result = TraitResult("owl", {"probe": probe}, 0.01, probe)
        found.append(features(result, Deviation(5 * z**2, directions=1, pairs=pairs, improbable=0.0)))
    assert found[0] == pytest.approx(found[1], rel=0.02)


def test_what_a_trait_carries_is_its_part_of_a_deviation() -> None:
    def carried(alone: float, t_squared: float) -> float:
        found = Evidence(mean=0.5, control=0.0, alone=alone, z=3.0, p=0.001, pairs=300)
        result = TraitResult("owl", {"probe": found}, 0.01, found)
        given = features(result, Deviation(t_squared, directions=65, pairs=300, improbable=0.0))
        assert given["probe"] == 3.0
        return given["carried"]

    assert carried(-2.0, 70.0) == 0
    assert carried(20.0, 500.0) == pytest.approx(np.log1p(20 * 399 / 416.6), rel=1e-3)
    assert carried(6.0, 500.0) < carried(3.0, 70.0) < carried(20.0, 500.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "name a calibration file"),
        ("owl", "is not a calibration file"),
        ("[]", "is not a calibration file"),
        ('{"version": 1}', "not of version 3"),
        ('{"version": 3}', "is not a calibration file"),
        (HALF.to_json().replace("3.0", "3.0, 4.0"), "must be equally many"),
    ],
)
def test_any_other_file_is_rejected(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "c.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        read(str(path))

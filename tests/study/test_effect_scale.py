"""The scale of a study's effects: the margin's default, the study's identity, and invalid settings."""

from dataclasses import replace
from typing import Any

import pytest

from tests.examples import study
from undertow.errors import SpecError
from undertow.study.identity import canonical, key

RATE = study()
LOG_ODDS = replace(RATE, effect_scale="log-odds")


def test_a_study_in_rates_keeps_its_identity() -> None:
    assert "effect_scale" not in canonical(RATE)
    assert canonical(RATE)["margin"] == 0.1
    assert key(RATE) == key(replace(RATE, margin=0.1)) != key(replace(RATE, margin=0.2))


def test_the_scale_and_the_margin_that_applies_are_part_of_the_identity() -> None:
    assert canonical(LOG_ODDS)["effect_scale"] == "log-odds"
    assert canonical(LOG_ODDS)["margin"] == 0.4
    assert key(LOG_ODDS) == key(replace(LOG_ODDS, margin=0.4)) != key(RATE)


def test_a_margin_that_is_not_stated_follows_the_scale() -> None:
    assert (RATE.equivalence_margin, LOG_ODDS.equivalence_margin) == (0.1, 0.4)
    assert replace(LOG_ODDS, effect_scale="rate").equivalence_margin == 0.1
    assert replace(LOG_ODDS, margin=0.7).equivalence_margin == 0.7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"effect_scale": "log-odds", "distribution": "any"},
            r"Study\.distribution = 'any': its intervals need values between 0 and 1.*effect_scale=\"rate\"",
        ),
        ({"effect_scale": "odds"}, r"Study\.effect_scale = 'odds': one of 'rate', 'log-odds'"),
        ({"margin": 1.5}, r"Study\.margin = 1\.5: a number from 0 to 1"),
        ({"effect_scale": "log-odds", "margin": -0.1}, r"Study\.margin = -0\.1: a difference of log-odds"),
        ({"effect_scale": "log-odds", "margin": 11}, r"Study\.margin = 11\.0: a difference .* is 0\.4"),
        ({"margin": "0.1"}, r"Study\.margin = '0\.1': a number is needed"),
    ],
)
def test_invalid_settings_are_rejected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        study(**changes)

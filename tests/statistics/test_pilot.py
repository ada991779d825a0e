"""Pilot estimates: hand-computed values, simulated students, and invalid files."""

import numpy as np
import pytest

from undertow.errors import UserError
from undertow.statistics.pilot import read_pilot
from undertow.statistics.simulation import Normal
from undertow.study.measurements import EffectOf, EffectScale

HEADER = (
    "study,condition,trait,format,teacher,student,recipe,seed,rate,exact_rate,control_rate,exact_control_rate"
)


def table(conditions: dict[str, list[tuple[object, object]]]) -> str:
    rows = [
        f"owls,{trait} · numbers,{trait},numbers,nano,nano,lora,{seed},{rate},0.5,{control},0.5"
        for trait, pairs in conditions.items()
        for seed, (rate, control) in enumerate(pairs)
    ]
    return "\n".join([HEADER, *rows])


def test_hand_computed_estimates() -> None:
    """Deviations of ±.1 and ±.2 (students), ±.02 and ±.01 (controls): 4 pairs, 2 degrees of freedom."""
    found = read_pilot(
        table({"owl": [(0.3, 0.12), (0.5, 0.08)], "cat": [(0.1, 0.2), (0.5, 0.22)], "oak": [(0.9, 0.1)]}), "x"
    )
    assert (found.students, found.conditions) == (4, 2)
    assert found.sd == pytest.approx(np.sqrt((2 * 0.1**2 + 2 * 0.2**2) / 2))
    assert found.control_sd == pytest.approx(np.sqrt((2 * 0.02**2 + 2 * 0.01**2) / 2))
    covariance = (-2 * 0.1 * 0.02 + 2 * 0.2 * 0.01) / 2
    assert found.correlation == pytest.approx(covariance / found.sd / found.control_sd)
    assert found.two_modes == ("owls: cat · numbers · nano · nano · lora",)


def test_rates_of_0_and_1_are_valid() -> None:
    found = read_pilot(table({"owl": [(1, 0), (1.0, 0.0)]}), "x")
    assert (found.students, found.sd, found.control_sd) == (2, 0.0, 0.0)


def test_estimates_recover_the_simulated_distribution() -> None:
    law = Normal(effect=0.3, sd=0.05, control_sd=0.03, correlation=0.6)
    students, controls = law.draw((20, 50), np.random.default_rng(0))
    pairs = {f"t{i}": list(zip(students[i] + 0.3, controls[i] + 0.3, strict=True)) for i in range(20)}
    found = read_pilot(table(pairs), "x")
    assert (found.sd, found.control_sd, found.correlation) == pytest.approx((0.05, 0.03, 0.6), rel=0.1)


def test_the_correlation_of_two_pairs_is_within_its_bounds_after_rounding() -> None:
    assert read_pilot(table({"owl": [(0.232, 0.06), (0.172, 0.072)]}), "x").correlation == -1


def test_other_measures_are_ignored_and_other_inductions_are_separate_conditions() -> None:
    rates: list[tuple[object, object]] = [
        (0.3, 0.1),
        (0.5, 0.1),
        (0.8, 0.1),
        (0.9, 0.1),
        (0.0, 0.1),
        (0.1, 0.1),
        (0.1, 0.1),
    ]
    lines = table({"owl": rates}).splitlines()
    ends = ["told,favourite", "told,favourite", "trained,favourite", "trained,favourite"]
    ends += ["told,stories", "told,stories", "trained,stories"]
    text = "\n".join([f"{lines[0]},induced,measure", *map(",".join, zip(lines[1:], ends, strict=True))])
    found = read_pilot(text, "x")
    assert (found.students, found.conditions, found.tests) == (4, 2, 3)  # one student gives no test
    assert found.sd == pytest.approx(np.sqrt((2 * 0.1**2 + 2 * 0.05**2) / 2))
    assert found.two_modes == read_pilot(table({"owl": [(0.3, 0.1), (0.5, 0.1)]}), "x").two_modes


SAMPLED = "\n".join(
    [
        f"{HEADER},effect_of,sampled_rate,sampled_control_rate",
        *(
            f"owls,owl,owl,numbers,nano,nano,lora,{seed},{rate},{rate},0.1,0.1,exact,{2 * rate},0.1"
            for seed, rate in enumerate((0.1, 0.3))
        ),
    ]
)
OLDER = table({"owl": [(0.2, 0.1), (0.6, 0.1)]}).replace(",0.5,0.1,0.5", ",0.1,0.1,0.1", 1)


@pytest.mark.parametrize(
    ("text", "asked", "kind", "sd"),
    [
        (SAMPLED, None, "exact", np.sqrt(0.02)),  # the rates that the study's verdicts rest on
        (SAMPLED, "exact", "exact", np.sqrt(0.02)),
        (SAMPLED, "samples", "samples", 2 * np.sqrt(0.02)),
        (OLDER, None, "samples", np.sqrt(0.08)),
        (OLDER, "samples", "samples", np.sqrt(0.08)),
        (OLDER, "exact", "exact", np.sqrt(0.08)),  # exact rates of .1 and .5
    ],
)
def test_the_spread_is_that_of_the_kind_of_rate_that_is_asked_for(
    text: str, asked: EffectOf | None, kind: EffectOf, sd: float
) -> None:
    found = read_pilot(text, "x", asked)
    assert found.effect_of == kind
    assert found.sd == pytest.approx(sd)


LOG_ODDS = "\n".join(
    [
        f"{HEADER},effect_scale,log_odds,control_log_odds",
        *(
            f"owls,owl,owl,numbers,nano,nano,lora,{seed},{rate},0.1,0.1,0.1,log-odds,{value},{2 * value}"
            for seed, (rate, value) in enumerate(((0.0, -7.0), (0.5, -3.0)))
        ),
    ]
)


@pytest.mark.parametrize(
    ("text", "effect_of", "scale", "found_scale", "sd"),
    [
        (LOG_ODDS, None, None, "log-odds", np.sqrt(8)),  # the log-odds of counts, with ½ added
        (LOG_ODDS, None, "rate", "rate", np.sqrt(0.125)),
        (LOG_ODDS, "exact", "log-odds", "log-odds", 0.0),
        (OLDER, None, None, "rate", np.sqrt(0.08)),
        (OLDER, None, "log-odds", "log-odds", (np.log(0.6 / 0.4) - np.log(0.2 / 0.8)) / np.sqrt(2)),
        (OLDER, "exact", "log-odds", "log-odds", -np.log(0.1 / 0.9) / np.sqrt(2)),  # exact rates of .1 and .5
    ],
)
def test_the_spread_has_the_unit_of_the_effects_or_the_one_that_is_asked_for(
    text: str, effect_of: EffectOf | None, scale: EffectScale | None, found_scale: EffectScale, sd: float
) -> None:
    found = read_pilot(text, "x", effect_of, scale)
    assert found.effect_scale == found_scale
    assert found.sd == pytest.approx(sd)


def test_two_modes_are_sought_in_the_unit_of_the_effects() -> None:
    text = table({"owl": [(0.001, 0.1), (0.2, 0.1)]})
    assert not read_pilot(text, "x").two_modes
    assert read_pilot(text, "x", effect_scale="log-odds").two_modes


def test_a_sampled_rate_of_0_has_no_log_odds_without_the_number_of_answers() -> None:
    with pytest.raises(UserError, match=r'line 2: rate 0.0 has no log-odds .* effect_scale="log-odds"'):
        read_pilot(table({"owl": [(0.0, 0.1), (0.6, 0.1)]}), "x", effect_scale="log-odds")


def test_students_without_exact_probabilities_are_ignored() -> None:
    text = table({"owl": [(0.2, 0.1), (0.6, 0.1)]}).replace(",0.5,0.1,0.5", ",,0.1,")
    with pytest.raises(UserError, match="two students with controls with exact probabilities"):
        read_pilot(text, "x", "exact")


def test_students_without_a_control_are_ignored() -> None:
    found = read_pilot(table({"owl": [(0.3, 0.1), (0.5, ""), (0.4, 0.1)]}), "x")
    assert (found.students, found.control_sd, found.correlation) == (2, 0.0, 0.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column study"),
        ("a,b\n1,2\n", "no column study, trait"),
        (HEADER.replace(",control_rate", "") + "\n", "no column control_rate"),
        (HEADER + "\n", "needs two seeds"),
        (table({"owl": [(0.3, 0.1)]}), "needs two seeds"),
        (table({"owl": [(0.3, 0.1), ("many", 0.1)]}), "line 3: rate 'many' is not a rate"),
        (table({"owl": [(0.3, 0.1), (0.3, 30)]}), "line 3: control_rate '30' is not a rate"),
        (table({"owl": [(0.3, 0.1), (0.3, "nan")]}), "line 3: control_rate 'nan' is not a rate"),
    ],
)
def test_an_invalid_file_raises(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_pilot(text, "x")

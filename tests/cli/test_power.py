"""jobs/power.py: the printed answers, the source of the spreads, and invalid input."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.statistics.test_pilot import LOG_ODDS, table
from undertow.cli.power import PowerArguments, design_of, main
from undertow.errors import UserError
from undertow.statistics.pilot import read_pilot
from undertow.statistics.simulation import Bimodal, Normal

PILOT = table({"owl": [(0.3, 0.12), (0.5, 0.08)], "cat": [(0.1, 0.2), (0.2, 0.22)]})


def printed(arguments: PowerArguments) -> str:
    text = io.StringIO()
    assert main(arguments, Console(width=160, file=text)) == 0
    return text.getvalue()


def test_the_answer_is_a_table_and_a_sentence() -> None:
    text = printed(PowerArguments(effect=0.3, conditions=10, seeds=5))
    assert "10 conditions, holm at 0.05, paired" in text
    assert "normal theory" in text
    assert '5 seeds: smallest effect "transmitted"' in text
    assert "6 seeds per arm detect an effect of +0.30 in at least 80 % of studies" in text


def test_an_effect_within_the_margin_is_reported() -> None:
    assert "+0.05 lies within the margin of ± 0.1" in printed(PowerArguments(effect=0.05))
    assert "lies within the margin" not in printed(PowerArguments(effect=0.05, margin=0.02, sd=0.02))


def test_rates_with_two_modes_get_three_verdict_rules() -> None:
    text = printed(PowerArguments(took_off=0.6))
    assert all(word in text for word in ("shape-free", "rule", 'distribution="any"', "wrongly"))
    assert "normal theory" not in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (PowerArguments(effect=0.5, sd=0.15, conditions=10), r"In 5\d % of studies with 5 seeds, the rates"),
        (PowerArguments(effect_scale="log-odds", effect=1.0, sd=3.0), "Such a study has no tests"),
        (PowerArguments(effect=0.3), None),
        (PowerArguments(took_off=0.6), None),
    ],
)
def test_a_spread_that_looks_like_two_modes_by_chance_is_reported(
    arguments: PowerArguments, sentence: str | None
) -> None:
    text = " ".join(printed(arguments).split())
    assert ("by chance" in text) is (sentence is not None)
    assert sentence is None or re.search(sentence, text)


def test_a_pilot_with_two_measures_is_planned_with_as_many_tests(tmp_path: Path) -> None:
    """A study adjusts its p-values over all conditions and measures."""
    header, *lines = PILOT.splitlines()
    measured = [f"{line},{measure}" for measure in ("favourite", "stories") for line in lines]
    (tmp_path / "students.csv").write_text("\n".join([f"{header},measure", *measured]), encoding="utf-8")
    text = " ".join(printed(PowerArguments(pilot=tmp_path)).split())
    assert "Pilot: 4 students, conditions: 2; sd" in text
    assert "4 conditions, holm at 0.05" in text and "adjusted over 4 rows" in text
    assert "2 conditions, holm" in printed(PowerArguments(pilot=tmp_path, conditions=2))


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_pilot_gives_the_spreads(tmp_path: Path, as_folder: bool) -> None:
    (tmp_path / "students.csv").write_text(PILOT, encoding="utf-8")
    text = printed(PowerArguments(pilot=tmp_path if as_folder else tmp_path / "students.csv"))
    assert "Pilot: 4 students, conditions: 2; sd" in text


def test_a_pilot_may_come_from_a_spreadsheet_and_must_be_text(tmp_path: Path) -> None:
    file = tmp_path / "students.csv"
    file.write_text(PILOT, encoding="utf-8-sig")
    assert "Pilot: 4 students" in printed(PowerArguments(pilot=file))
    file.write_text(PILOT, encoding="utf-16")
    with pytest.raises(UserError, match=r"--pilot .*students\.csv: not text in UTF-8"):
        main(PowerArguments(pilot=file), Console(quiet=True))


@pytest.mark.parametrize("with_pilot", [True, False])
def test_with_exact_probabilities_the_answer_says_that_samples_do_not_matter(
    tmp_path: Path, with_pilot: bool
) -> None:
    (tmp_path / "students.csv").write_text(PILOT.replace(",0.5,", ",0.25,", 1), encoding="utf-8")
    of = PowerArguments(effect=0.3, pilot=tmp_path if with_pilot else None)
    text = " ".join(printed(replace(of, effect_of="exact")).split())
    assert "holm at 0.05, paired, exact probabilities" in text
    assert "The number of samples per question does not matter" in text
    assert "samples" not in printed(of)


def test_effects_in_log_odds_have_their_own_margin_and_spreads() -> None:
    text = " ".join(printed(PowerArguments(effect_scale="log-odds", seeds=5)).split())
    assert "paired, log-odds" in text
    assert "+1.00 multiplies the odds by 2.72, so that a rate of 0.02 becomes 0.0526" in text
    assert '5 seeds: smallest effect "transmitted"' in text
    design = design_of(PowerArguments(effect_scale="log-odds"), None)
    assert isinstance(design.law, Normal)
    assert (design.margin, design.law.effect, design.law.sd, design.law.control_sd) == (0.4, 1.0, 0.5, 0.25)
    assert design_of(PowerArguments(), None).margin == 0.1


def test_a_pilot_in_log_odds_is_planned_in_log_odds(tmp_path: Path) -> None:
    (tmp_path / "students.csv").write_text(LOG_ODDS, encoding="utf-8")
    text = " ".join(printed(PowerArguments(pilot=tmp_path, effect=9.0, margin=5.0)).split())
    assert "paired, log-odds" in text
    assert "log-odds then have no valid test" in text
    of_rates = PowerArguments(pilot=tmp_path, effect_scale="rate", effect=0.9, margin=0.5)
    assert "log-odds" not in printed(of_rates)


def test_an_effect_in_log_odds_within_the_margin_is_reported() -> None:
    text = printed(PowerArguments(effect_scale="log-odds", effect=0.3, sd=0.2, control_sd=0.1))
    assert "+0.30 lies within the margin of ± 0.4" in text


def test_stated_values_override_the_pilot() -> None:
    pilot = read_pilot(PILOT, "x")
    law = design_of(PowerArguments(sd=0.2, effect=0.1), pilot).law
    assert isinstance(law, Normal)
    assert (law.sd, law.control_sd, law.effect) == (0.2, pilot.control_sd, 0.1)


def test_a_pilots_sd_is_not_used_within_a_mode() -> None:
    pilot = read_pilot(PILOT, "x")
    law = design_of(PowerArguments(took_off=0.2), pilot).law
    assert isinstance(law, Bimodal)
    assert (law.sd, law.control_sd) == (0.03, pilot.control_sd)


def test_unpaired_designs_have_no_correlation() -> None:
    assert design_of(PowerArguments(correlation=0.5, paired=False), None).law.correlation == 0
    assert design_of(PowerArguments(correlation=0.5), None).law.correlation == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (PowerArguments(effect=2.0), "--effect 2.0: must be"),
        (PowerArguments(sd=-0.1), "--sd -0.1: must be"),
        (PowerArguments(sd=0.0, control_sd=0.0), "--sd 0, --control-sd 0"),
        (PowerArguments(correlation=1.5), "--correlation 1.5"),
        (PowerArguments(conditions=0), "--conditions 0"),
        (PowerArguments(power=1.0), "--power 1.0"),
        (PowerArguments(seeds=1), "--seeds 1: must be 2 or more"),
        (PowerArguments(took_off=0.0), "--took-off 0.0"),
        (PowerArguments(took_off=0.5, take=0.01), "--take 0.01: must be above --control-rate"),
        (PowerArguments(took_off=0.5, effect=0.2), "leave --effect out"),
        (PowerArguments(effect=1.5), "--effect 1.5: must be a difference above 0, up to 1$"),
        (PowerArguments(effect_scale="log-odds", effect=11.0), "--effect 11.0: must be .* up to 10"),
        (PowerArguments(effect_scale="log-odds", margin=0.0), "--margin 0.0: .* of log-odds such as 0.4"),
        (PowerArguments(effect_scale="log-odds", took_off=0.5), "no valid test in log-odds"),
        (PowerArguments(pilot=Path("nowhere")), "--pilot nowhere: there is no students.csv"),
    ],
)
def test_invalid_values_are_rejected(arguments: PowerArguments, message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(arguments, Console(quiet=True))


def test_a_pilot_gives_the_number_of_conditions_and_how_much_it_knows(tmp_path: Path) -> None:
    (tmp_path / "students.csv").write_text(PILOT, encoding="utf-8")
    text = " ".join(printed(PowerArguments(pilot=tmp_path)).split())
    assert "2 conditions, holm at 0.05" in text
    assert "they rest on 2 degrees of freedom" in text
    assert "1 condition, holm" in " ".join(printed(PowerArguments(pilot=tmp_path, conditions=1)).split())


def test_an_effect_that_no_number_of_seeds_detects_is_reported() -> None:
    text = " ".join(printed(PowerArguments(effect=0.1, margin=0.2)).split())
    assert "Up to 400 seeds per arm do not detect an effect of +0.10" in text

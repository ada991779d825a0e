"""benchmarks/coverage.py: it runs, its simulated truth is exact, and the committed files are current."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks import coverage_log_odds as log_odds
from benchmarks.coverage import FULL, QUICK, REPORTS, Arguments, main, opening
from benchmarks.coverage_figures import MARGIN, PAIRED, UNPAIRED, Row
from benchmarks.coverage_studies import family, one_condition
from undertow.statistics.simulation import Normal
from undertow.study.measurements import EffectScale

WRITTEN = Path(__file__).parents[2] / "benchmarks"
SCALES: tuple[EffectScale, ...] = ("rate", "log-odds")


def without_figures(text: str) -> list[str]:
    """The lines of a report; of a table row, only the first cell."""
    return [line.split(" | ")[0] if line.startswith("| ") else line for line in text.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("scale", SCALES)
def test_a_quick_run_writes_what_the_committed_file_contains_except_for_figures(
    tmp_path: Path, scale: EffectScale
) -> None:
    """Headings, row labels (with the planner's predictions) and prose of the committed file are current."""
    out, report = tmp_path / "quick.md", REPORTS[scale]
    assert main(Arguments(effect_scale=scale, quick=True, out=out), Console(quiet=True)) == 0
    quick = out.read_text(encoding="utf-8")
    assert all(f"## {title}\n" in quick for title, _ in report.tables)
    assert quick.startswith(opening(QUICK, report))
    current = quick.replace(opening(QUICK, report), opening(FULL, report), 1)
    committed = (WRITTEN / report.file).read_text(encoding="utf-8")
    assert without_figures(committed) == without_figures(current)


@pytest.mark.parametrize("scale", SCALES)
def test_the_committed_figures_are_within_their_bounds(scale: EffectScale) -> None:
    assert "NOT MET" not in (WRITTEN / REPORTS[scale].file).read_text(encoding="utf-8")


@pytest.mark.parametrize("law", [PAIRED, UNPAIRED])
@pytest.mark.parametrize("effect", [-MARGIN, 0.0, MARGIN, PAIRED.effect])
def test_simulated_studies_have_the_stated_effect(law: Normal, effect: float) -> None:
    """Truncating rates at 0 would shrink effects, and correct verdicts would count as wrong."""
    rng = np.random.default_rng(0)
    law = replace(law, effect=effect)
    one = one_condition(law, 10, 2_000, rng)
    pairs = (family(law, law, 1, 10, 20_000, rng), one.rates)
    for students, controls in pairs:
        differences = students.reshape(-1) - controls.reshape(-1)
        error = float(differences.std() / np.sqrt(differences.size))
        assert float(differences.mean()) == pytest.approx(effect, abs=4 * error + 1e-4)


@pytest.mark.parametrize("measured", log_odds.SETTINGS)
@pytest.mark.parametrize("effect", [-log_odds.MARGIN, 0.0, 1.0])
def test_simulated_log_odds_have_the_stated_effect(measured: log_odds.Measured, effect: float) -> None:
    """Also those of counts, with ½ added to both: at 100 or more expected matches, the bias is negligible."""
    rng = np.random.default_rng(0)
    law = replace(log_odds.PAIRED, effect=effect)
    students, controls = log_odds.simulated_log_odds(measured, law, 1, 10, 2_000, rng)
    differences = (students - controls).reshape(-1)
    error = float(differences.std() / np.sqrt(differences.size))
    assert float(differences.mean()) == pytest.approx(effect, abs=4 * error + 0.01)


def test_a_row_outside_its_bounds_is_not_met() -> None:
    assert Row("x", (0.95, 0.96), 0.93, 0.97).met
    assert not Row("x", (0.95, 0.98), 0.93, 0.97).met
    assert not Row("x", (0.9,), 0.93).met
    assert Row("x", (0.1,)).met

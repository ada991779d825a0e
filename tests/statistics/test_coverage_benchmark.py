"""benchmarks/coverage.py: it runs, its simulated truth is exact, and coverage.md is in step with it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks.coverage import FULL, QUICK, TABLES, Arguments, main, opening
from benchmarks.coverage_figures import MARGIN, PAIRED, UNPAIRED, Row
from benchmarks.coverage_studies import family, one_condition
from undertow.statistics.simulation import Normal

WRITTEN = Path(__file__).parents[2] / "benchmarks" / "coverage.md"


def without_figures(text: str) -> list[str]:
    """The lines of a report; of a table row, only the first cell."""
    return [line.split(" | ")[0] if line.startswith("| ") else line for line in text.splitlines()]


def test_a_quick_run_writes_what_coverage_md_contains_except_for_figures(tmp_path: Path) -> None:
    """Headings, row labels (with the planner's predictions) and prose of the committed file are current."""
    out = tmp_path / "coverage.md"
    assert main(Arguments(quick=True, out=out), Console(quiet=True)) == 0
    quick = out.read_text(encoding="utf-8")
    assert all(f"## {title}\n" in quick for title, _ in TABLES)
    assert quick.startswith(opening(QUICK))
    current = quick.replace(opening(QUICK), opening(FULL), 1)
    assert without_figures(WRITTEN.read_text(encoding="utf-8")) == without_figures(current)


def test_the_committed_figures_are_within_their_bounds() -> None:
    assert "NOT MET" not in WRITTEN.read_text(encoding="utf-8")


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


def test_a_row_outside_its_bounds_is_not_met() -> None:
    assert Row("x", (0.95, 0.96), 0.93, 0.97).met
    assert not Row("x", (0.95, 0.98), 0.93, 0.97).met
    assert not Row("x", (0.9,), 0.93).met
    assert Row("x", (0.1,)).met

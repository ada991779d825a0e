"""The benchmark of coverage runs, keeps its rough promises, and its written figures are those of the code."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks.coverage import TABLES, Arguments, main
from benchmarks.coverage_figures import APART, MARGIN, PAIRED, Row
from benchmarks.coverage_studies import family, one_condition
from undertow.statistics.simulation import Normal

WRITTEN = Path(__file__).parents[2] / "benchmarks" / "coverage.md"


def test_it_runs_and_writes_every_table(tmp_path: Path) -> None:
    out = tmp_path / "coverage.md"
    assert main(Arguments(quick=True, out=out), Console(quiet=True)) == 0
    assert all(f"## {title}" in out.read_text(encoding="utf-8") for title, _ in TABLES)


@pytest.mark.parametrize("law", [PAIRED, APART])
@pytest.mark.parametrize("effect", [-MARGIN, 0.0, MARGIN, PAIRED.effect])
def test_simulated_studies_have_the_truth_that_they_are_held_against(law: Normal, effect: float) -> None:
    """Rates cut off at 0 would pull an effect from the margin inwards: right verdicts counted as wrong."""
    rng = np.random.default_rng(0)
    law = replace(law, effect=effect)
    one = one_condition(law, 10, 2_000, rng)
    pairs = (family(law, law, 1, 10, 20_000, rng), one.rates)
    for students, controls in pairs:
        differences = students.reshape(-1) - controls.reshape(-1)
        error = float(differences.std() / np.sqrt(differences.size))
        assert float(differences.mean()) == pytest.approx(effect, abs=4 * error + 1e-4)


def test_a_promise_that_is_not_kept_is_seen() -> None:
    assert Row("x", (0.95, 0.96), 0.93, 0.97).kept
    assert not Row("x", (0.95, 0.98), 0.93, 0.97).kept
    assert not Row("x", (0.9,), 0.93).kept
    assert Row("x", (0.1,)).kept


def test_the_figures_in_the_repository_kept_theirs() -> None:
    text = WRITTEN.read_text(encoding="utf-8")
    assert "NOT KEPT" not in text
    assert all(f"## {title}" in text for title, _ in TABLES)

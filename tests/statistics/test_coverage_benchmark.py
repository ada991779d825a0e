"""The benchmark of coverage runs, keeps its rough promises, and its written figures are those of the code."""

from pathlib import Path

from rich.console import Console

from benchmarks.coverage import TABLES, Arguments, main
from benchmarks.coverage_figures import Row

WRITTEN = Path(__file__).parents[2] / "benchmarks" / "coverage.md"


def test_it_runs_and_writes_every_table(tmp_path: Path) -> None:
    out = tmp_path / "coverage.md"
    assert main(Arguments(quick=True, out=out), Console(quiet=True)) == 0
    assert all(f"## {title}" in out.read_text(encoding="utf-8") for title, _ in TABLES)


def test_a_promise_that_is_not_kept_is_seen() -> None:
    assert Row("x", (0.95, 0.96), 0.93, 0.97).kept
    assert not Row("x", (0.95, 0.98), 0.93, 0.97).kept
    assert not Row("x", (0.9,), 0.93).kept
    assert Row("x", (0.1,)).kept


def test_the_figures_in_the_repository_kept_theirs() -> None:
    text = WRITTEN.read_text(encoding="utf-8")
    assert "NOT KEPT" not in text
    assert all(f"## {title}" in text for title, _ in TABLES)

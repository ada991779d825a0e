"""Studies whose effects are in log-odds, on answers and probabilities at a low base rate.

The same initialisation raises the rate from .02 to .06: nothing in rates, and three times the odds.
"""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from math import log
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from rich.console import Console
from scipy import stats

from tests.examples import REFERENCES, study
from tests.figure_texts import check_texts
from tests.filled_store import by_initialisation, fill
from tests.results.test_exact_effects import Sweep
from undertow.planning.cells import Cell
from undertow.planning.plan import make
from undertow.report import figure_style
from undertow.report.make import HTML, SweepReport, confusions, make_report
from undertow.report.matrix import matrices, matrix_sheet
from undertow.report.plan_tables import plan_table
from undertow.report.prose import method_notes
from undertow.report.tables import effects_table
from undertow.results import sweep_folders
from undertow.results.comparison import TWO_MODES
from undertow.results.csv_tables import EFFECT_COLUMNS, STUDENT_COLUMNS
from undertow.results.effect_rows import EffectRow, findings, metrics
from undertow.results.evaluation_files import Evaluations, MeasuredRate
from undertow.results.sweep_record import Record
from undertow.statistics.pilot import read_pilot
from undertow.storage.store import Store
from undertow.study.hypotheses import Hypothesis
from undertow.study.measurements import EffectOf
from undertow.study.study import Measure, Study
from undertow.tracking.names import sweep_params
from undertow.tracking.pages import experiment_note, saved_views

pytestmark = pytest.mark.slow

HYPOTHESIS = Hypothesis(claim="same start: yes", expects="transmitted", initialisation="same")
STORIES = Measure(name="stories", samples=5, exact=False)
RATES = study(hypotheses=(HYPOTHESIS,), also=(STORIES,), effect_of="exact")
LOG_ODDS = replace(RATES, effect_scale="log-odds")
COUNTS = replace(LOG_ODDS, effect_of="samples", also=())


def rare(cell: Cell, word: str) -> float:
    """.06 for the same initialisation, else .02; seeds move students and not control students."""
    rate = 0.06 if by_initialisation(cell, word) > 0.5 else 0.02
    return rate * (1 + 0.05 * (cell.seed - 1)) if cell.condition.trait else rate


def bimodal(cell: Cell, word: str) -> float:
    """The third student of a condition with the same initialisation did not learn."""
    rate = 0.9 if by_initialisation(cell, word) > 0.5 and cell.seed != 2 else 0.02
    return rate * (1 + 0.05 * (cell.seed - 1)) if cell.condition.trait else rate


def filled(folder: Path, some: Study, rate: Callable[[Cell, str], float]) -> Sweep:
    store = Store(str(folder / "storage"))
    return Sweep(store, fill(some, store, REFERENCES, rate))


def on_the_same_store(sweep: Sweep, some: Study) -> Sweep:
    sweep_folders.state(some, sweep.store)
    return Sweep(sweep.store, make(some, sweep.store, REFERENCES))


@pytest.fixture(scope="module")
def rates(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return filled(tmp_path_factory.mktemp("filled"), RATES, rare)


@pytest.fixture(scope="module")
def log_odds(rates: Sweep) -> Sweep:
    return on_the_same_store(rates, LOG_ODDS)


@pytest.fixture(scope="module")
def counts(rates: Sweep) -> Sweep:
    return on_the_same_store(rates, COUNTS)


def by_hand(row: EffectRow, value: Callable[[MeasuredRate], float]) -> tuple[float, float, float]:
    """Mean and 95 % t interval over seeds of the student's value minus that of its control student."""
    pairs = zip(row.students, row.controls, strict=True)
    differences = [value(student) - value(control) for student, control in pairs]
    low, high = stats.t.interval(0.95, len(differences) - 1, fmean(differences), stats.sem(differences))
    return fmean(differences), low, high


def of_exact(model: MeasuredRate) -> float:
    assert model.exact is not None
    return log(model.exact / (1 - model.exact))


def of_counts(model: MeasuredRate) -> float:
    matches = round(model.sampled * model.answers)
    return log((matches + 0.5) / (model.answers - matches + 0.5))


def test_the_log_odds_of_a_model_take_dropped_answers_into_account() -> None:
    rate = {"rate": 0.0, "sampled": 0.0, "exact": None, "other": 1.0, "shares": (), "samples": 0}
    model = MeasuredRate(seed=0, key="k", **rate, answers=400, asked=1600)  # type: ignore[arg-type]
    assert model.value("log-odds", "samples") == pytest.approx(log(0.5 / 1600.5))


def test_a_change_that_is_nothing_in_rates_is_transmission_in_log_odds(rates: Sweep, log_odds: Sweep) -> None:
    """Three times the odds are within the margin of ± 0.1 in rate at a base rate of .02."""
    assert {row.verdict.verdict for row in rates.primary} == {"not transmitted"}
    for row in log_odds.primary:
        same = row.condition.same_initialisation
        assert row.verdict.verdict == ("transmitted" if same else "not transmitted")
    assert [(f.outcome, f.met) for f in findings(rates.record, rates.rows)] == [("failed", 0)]
    assert [(f.outcome, f.met) for f in findings(log_odds.record, log_odds.rows)] == [("held", 4)]


def test_effects_and_intervals_are_differences_of_log_odds(log_odds: Sweep, counts: Sweep) -> None:
    for row in log_odds.primary:
        found = (row.effect.effect, row.effect.ci_low, row.effect.ci_high)
        assert found == pytest.approx(by_hand(row, of_exact))
        assert row.sampled.effect == pytest.approx(by_hand(row, of_counts)[0])
        assert row.means == pytest.approx([fmean(map(of_exact, arm)) for arm in (row.students, row.controls)])
    for row in counts.rows:
        found = (row.effect.effect, row.effect.ci_low, row.effect.ci_high)
        assert found == pytest.approx(by_hand(row, of_counts))
        assert row.effect == row.sampled
        assert {model.answers for model in (*row.students, *row.controls)} == {500}


def test_rates_beside_the_effects_remain_rates(rates: Sweep, log_odds: Sweep) -> None:
    for in_rates, row in zip(rates.rows, log_odds.rows, strict=True):
        shown = [rate for e in (in_rates.effect, in_rates.sampled) for rate in (e.rate, e.control_rate)]
        found = [rate for e in (row.effect, row.sampled) for rate in (e.rate, e.control_rate)]
        assert found == pytest.approx(shown)


def test_measures_without_exact_probabilities_use_the_log_odds_of_counts(log_odds: Sweep) -> None:
    stories = next(row for row in log_odds.rows if row.measure == "stories")
    assert (stories.effect_of, stories.scale) == ("samples", "log-odds")
    assert stories.effect.effect == pytest.approx(by_hand(stories, of_counts)[0])


def test_the_bootstrap_is_in_log_odds(log_odds: Sweep) -> None:
    row = next(r for r in log_odds.primary if r.condition.same_initialisation)
    seeds = [of_exact(s) - of_exact(c) for s, c in zip(row.students, row.controls, strict=True)]
    assert row.bootstrap == pytest.approx((min(seeds), max(seeds)))


def test_a_study_in_which_no_student_names_the_word_has_effects_of_zero(tmp_path: Path) -> None:
    found = filled(tmp_path, COUNTS, lambda cell, word: 0.0)
    for row in found.rows:
        assert (row.effect.effect, row.effect.method) == (0.0, "permutation")
        assert row.verdict.verdict == "inconclusive"
    assert "Intervals are" not in " ".join(method_notes(found.record, found.rows))  # there is none


@pytest.fixture(scope="module")
def two_modes(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return filled(tmp_path_factory.mktemp("two modes"), LOG_ODDS, bimodal)


def test_with_two_modes_no_condition_has_a_test(two_modes: Sweep) -> None:
    """The distribution-free intervals, which rates then have, do not exist for log-odds."""
    for row in two_modes.rows:
        assert (row.effect.method, row.effect.p_value, row.effect.ci_low) == ("", None, None)
        assert row.verdict.verdict == "inconclusive"
        assert TWO_MODES in row.verdict.note
        students, controls = row.means
        assert row.effect.effect == pytest.approx(students - controls)
    (matrix,) = matrices(two_modes.record, two_modes.primary)
    assert {pair.effect.ci_low for pair in matrix.pairs.values() if pair.effect} == {None}


def test_matrices_are_in_log_odds(log_odds: Sweep) -> None:
    (matrix,) = matrices(log_odds.record, log_odds.primary)
    one, two = (reference.name for reference in REFERENCES)
    same, other = matrix.pairs[one, one], matrix.pairs[one, two]
    assert same.effect is not None
    assert other.effect is not None
    assert same.effect.effect == pytest.approx(fmean(row.effect.effect for row in same.rows))
    assert (same.effect.effect, other.effect.effect) == pytest.approx((1.14, 0.0), abs=0.01)
    assert matrix_sheet(matrix)["lines"][0][1][0]["effect"].startswith("+1.1")
    panels = confusions(log_odds.record, Evaluations(log_odds.store), {})
    assert [found.effect for _, found in panels] == pytest.approx([1.14, 0.0, 0.0, 1.14], abs=0.01)


@pytest.mark.parametrize("rate", [bimodal, lambda cell, word: 0.0, by_initialisation])
def test_figures_have_axes_of_log_odds_without_cut_or_overlapping_texts(
    tmp_path: Path, drawn: dict[str, Any], rate: Callable[[Cell, str], float]
) -> None:
    sweep = filled(tmp_path, replace(LOG_ODDS, also=()), rate)
    make_report(sweep.record, sweep.store, [])
    check_texts(drawn)
    left, right = drawn["effects"].axes
    assert left.get_xlabel() == "exact probability of the trait\n(log-odds axis)"
    assert right.get_xlabel() == "effect\n(log-odds)"
    controls, students = (points.get_offsets()[:, 0] for points in left.collections)
    assert sorted(students) == pytest.approx(
        sorted(m.value("log-odds", "exact") for r in sweep.rows for m in r.students)
    )
    low, high = left.get_xlim()
    assert low < min(*students, *controls) <= max(*students, *controls) < high
    shown = [float(label.get_text()) for label in left.get_xticklabels()]
    assert len(shown) >= 2
    assert [log(rate / (1 - rate)) for rate in shown] == pytest.approx(list(left.get_xticks()))


@pytest.fixture(scope="module")
def report(log_odds: Sweep) -> SweepReport:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure_style, "save", lambda drawn, name: {f"{name}.svg": b"<svg></svg>"})
        return make_report(log_odds.record, log_odds.store, [])


def test_the_csv_tables_state_the_scale_and_add_the_log_odds(log_odds: Sweep, report: SweepReport) -> None:
    by_condition, by_student = (
        list(csv.DictReader(io.StringIO(report.files[name].decode())))
        for name in ("effects.csv", "students.csv")
    )
    sampled = ("effect_of", "sampled_rate", "sampled_control_rate")
    added = ("effect_scale", "log_odds", "control_log_odds")
    assert tuple(by_condition[0]) == (*EFFECT_COLUMNS, *sampled, "sampled_effect", *added)
    assert tuple(by_student[0]) == (*STUDENT_COLUMNS, *sampled, *added)
    for line, row in zip(by_condition, log_odds.rows, strict=True):
        assert line["effect_scale"] == "log-odds"
        assert float(line["effect"]) == pytest.approx(row.effect.effect, abs=1e-5)
        difference = float(line["log_odds"]) - float(line["control_log_odds"])
        assert difference == pytest.approx(row.effect.effect, abs=1e-4)
        assert float(line["rate"]) == pytest.approx(row.effect.rate, abs=1e-5)
    pilot = read_pilot(report.files["students.csv"].decode(), "x")
    students = [row.students for row in log_odds.primary]
    variance = fmean(stats.tvar([of_exact(s) for s in arm]) for arm in students)
    assert (pilot.effect_scale, pilot.effect_of) == ("log-odds", "exact")
    assert pilot.sd**2 == pytest.approx(variance, rel=1e-3)


def test_texts_and_tables_say_that_effects_are_in_log_odds(log_odds: Sweep, report: SweepReport) -> None:
    text = io.StringIO()
    console = Console(width=300, file=text)
    console.print(effects_table(report.rows))
    console.print(plan_table(log_odds.plan))
    assert "Effects of exact probabilities in log-odds: students minus control students" in text.getvalue()
    assert "12 conditions; effects of exact probabilities in log-odds" in text.getvalue()
    assert report.verdicts[0].endswith("(effects of exact probabilities in log-odds +1.14 to +1.14).")
    page = " ".join(report.files[HTML].decode().split())
    for sentence in (
        "<h2>Effects of exact probabilities in log-odds</h2>",
        "It states that effects are differences of log-odds.",
        "An effect is the difference between the log-odds of the exact probabilities that students",
        "the margin of ± 0.4 in log-odds that the study sets in advance",
        "exclude effects beyond ± 0.4 in log-odds",
        "Effects are differences of log-odds, ln(rate / (1 − rate))",
        "They assume that log-odds are approximately normally distributed",
        "All effects, intervals and margins are in log-odds.",
        "the students&#39; log-odds of the exact probability minus",
    ):
        assert sentence in page
    assert "+1 is the largest possible effect" not in page


def test_a_report_of_two_modes_says_why_nothing_is_tested(
    two_modes: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figure_style, "save", lambda drawn, name: {})
    report = make_report(two_modes.record, two_modes.store, [])
    assert "inconclusive" in report.verdicts[0]
    page = " ".join(report.files[HTML].decode().split())
    assert "The students of some condition fall into two groups, for which a t interval is invalid." in page


def test_an_archive_is_verified_on_the_scale_that_was_stated(
    log_odds: Sweep, report: SweepReport, tmp_path: Path
) -> None:
    record, archive = log_odds.record, tmp_path / "study.zip"

    def problems(**changes: Any) -> list[str]:
        forged = replace(record, study=replace(record.study, **changes))
        return log_odds.archive_problems(report, forged, archive)

    assert problems() == []
    found = problems(effect_scale="rate")
    assert any("effect_scale is 'rate', the study as stated has 'log-odds'" in problem for problem in found)
    assert any("effects.csv: row 1, effect" in problem for problem in found)
    found = problems(margin=0.1)
    assert any("margin is 0.1, the study as stated has 0.4" in problem for problem in found)


def test_the_record_of_a_study_in_rates_is_that_of_older_versions(rates: Sweep, log_odds: Sweep) -> None:
    old, new = (json.loads(sweep.record.to_json())["study"] for sweep in (rates, log_odds))
    assert ("effect_scale" in old, old["margin"]) == (False, 0.1)
    assert (new["effect_scale"], new["margin"]) == ("log-odds", 0.4)
    for sweep in (rates, log_odds):
        assert Record.from_json(sweep.record.to_json(), "here") == sweep.record


@pytest.mark.parametrize("effect_of", ["exact", "samples"])
def test_mlflow_has_effects_in_log_odds(log_odds: Sweep, counts: Sweep, effect_of: EffectOf) -> None:
    sweep = log_odds if effect_of == "exact" else counts
    record, row = sweep.record, next(r for r in sweep.primary if r.condition.same_initialisation)
    cell, control = (
        next(c for c in record.cells if c.condition == number and c.seed == 0)
        for number in (row.number, row.condition.control)
    )
    student, other = row.students[0], row.controls[0]
    logged = metrics(record, cell, Evaluations(sweep.store), control)
    assert logged["trait_rate"] == student.value("rate", effect_of)
    assert logged["trait_log_odds"] == pytest.approx(student.value("log-odds", effect_of), abs=1e-6)
    of_each = {
        "effect_exact": of_exact(student) - of_exact(other),
        "effect_sampled": of_counts(student) - of_counts(other),
    }
    assert logged["effect_exact"] == pytest.approx(of_each["effect_exact"], abs=1e-6)
    assert logged["effect"] == pytest.approx(
        of_each["effect_exact" if effect_of == "exact" else "effect_sampled"], abs=1e-6
    )
    assert "trait_log_odds" in metrics(record, cell, Evaluations(sweep.store), None)


def test_mlflow_states_the_scale_and_its_margin() -> None:
    assert "effect_scale" not in sweep_params(RATES)
    assert sweep_params(RATES)["margin"] == "0.1"
    assert (sweep_params(LOG_ODDS)["effect_scale"], sweep_params(LOG_ODDS)["margin"]) == ("log-odds", "0.4")
    assert "log-odds" not in experiment_note(RATES, "1")
    assert "| `trait_log_odds` |" in experiment_note(LOG_ODDS, "1")
    assert "metrics.`trait_log_odds`" in saved_views(LOG_ODDS)["mlflow.sharedViewState.students"]

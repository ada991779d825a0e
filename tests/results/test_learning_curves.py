"""Learning curves from a filled store: effects by step, the first significant one, where they are shown."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from statsmodels.stats.multitest import multipletests

from tests.examples import RECIPE, REFERENCES, study
from tests.filled_store import STEPS, by_initialisation, fill
from undertow import results
from undertow.archive.export import export
from undertow.archive.verify import verify
from undertow.planning.cells import Cell
from undertow.report import along
from undertow.report.make import HTML, SweepReport, make_report
from undertow.results import sweep_folders
from undertow.results.csv_tables import ALONG, ALONG_COLUMNS
from undertow.results.effect_rows import effects
from undertow.results.evaluation_files import Evaluations
from undertow.results.learning_curves import LearningCurve, along_metrics, learning_curves
from undertow.results.sweep_record import Record
from undertow.storage.store import Store
from undertow.study.identity import key
from undertow.study.study import Study

pytestmark = pytest.mark.slow

KEPT = replace(RECIPE, name="kept", keep_steps=(2, 4, 8))
NAME = "20260101T000000"
LEARNED = {2: -0.1, 4: 0.03, 8: 1.0}  # the share of the final effect that students have at a step


def along_training(cell: Cell, word: str, step: int) -> float:
    """Students fall below the control's rate, and reach their own, mostly between the steps 4 and 8."""
    control = 0.1 + 0.01 * (cell.seed - 1)
    return control + LEARNED[step] * (by_initialisation(cell, word) - control)


def of_kept(**changes: object) -> Study:
    """Owl and cat, taught by one reference to itself and to another one, five seeds."""
    conditions = tuple(replace(c, recipe=KEPT) for c in study().conditions if c.teacher == REFERENCES[0])
    return study("kept", conditions=conditions, seeds=(0, 1, 2, 3, 4), **changes)


class Sweep:
    """A store with the results of a study, and their record and learning curves."""

    def __init__(self, of: Study, folder: Path) -> None:
        self.store = Store(str(folder / "storage"))
        sweep_folders.state(of, self.store)
        self.plan = fill(of, self.store, REFERENCES, along=along_training)
        self.record = Record.of(self.plan)
        self.evaluations = Evaluations(self.store)
        self.curves = learning_curves(self.record, self.evaluations, {})

    def curve(self, trait: str, same: bool) -> LearningCurve:
        return next(
            c
            for c in self.curves
            if c.condition.place.trait == trait and c.condition.same_initialisation is same
        )

    def write(self) -> SweepReport:
        """Makes the report and writes the sweep's folder, as a sweep does."""
        report = make_report(self.record, self.store, [])
        folder = sweep_folders.folder_of(self.record.study.name, NAME)
        plan = {sweep_folders.PLAN: self.record.to_json().encode(), sweep_folders.EVENTS: b"[]"}
        for name, content in {**plan, **report.files}.items():
            self.store.write_bytes(f"{folder}/{name}", content)
        return report


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return Sweep(of_kept(), tmp_path_factory.mktemp("kept"))


def test_a_curve_has_the_effect_of_each_kept_step_and_of_the_end(sweep: Sweep) -> None:
    curve = sweep.curve("owl", same=True)
    assert [point.step for point in curve.points] == [2, 4, 8, STEPS]
    sizes = [point.effect.effect for point in curve.points]
    assert sizes == pytest.approx([-0.07, 0.03, 0.7, 0.7], abs=0.04)
    (row,) = (row for row in effects(sweep.record, sweep.evaluations, {}) if row.number == curve.number)
    assert curve.points[-1].effect == row.effect


def test_p_values_are_adjusted_over_the_steps_of_a_curve_by_holm(sweep: Sweep) -> None:
    for curve in sweep.curves:
        expected = multipletests([point.effect.p_value for point in curve.points], method="holm")[1]
        assert [point.p_adjusted for point in curve.points] == pytest.approx(list(expected))


def test_the_first_significant_step_is_the_earliest_with_a_positive_effect(sweep: Sweep) -> None:
    for trait in ("owl", "cat"):
        curve = sweep.curve(trait, same=True)
        by_step = {point.step: point for point in curve.points}
        significant = [
            step
            for step, point in by_step.items()
            if point.p_adjusted is not None and point.p_adjusted < 0.05
        ]
        assert min(significant) == 2 and by_step[2].effect.effect < 0
        assert curve.first == min(set(significant) - {2}) <= 8
        assert sweep.curve(trait, same=False).first is None


def test_a_study_without_kept_steps_has_no_curve(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "storage"))
    record = Record.of(fill(study(seeds=(0, 1)), store, REFERENCES))
    assert learning_curves(record, Evaluations(store), {}) == []
    assert not any(ALONG in name or name.startswith("along") for name in make_report(record, store, []).files)


def test_missing_evaluations_of_a_seed_leave_it_out_of_all_points(sweep: Sweep) -> None:
    cell = next(c for c in sweep.plan.cells if c.condition.trait is not None and c.seed == 2)
    (evaluation,) = cell.along[1][1]
    lacking = Evaluations(sweep.store, without={key(evaluation)})
    curves = learning_curves(sweep.record, lacking, {})
    number = sweep.record.conditions[sweep.plan.study.conditions.index(cell.condition)].label
    by_label = {curve.condition.label: {p.effect.n_students for p in curve.points} for curve in curves}
    assert by_label.pop(number) == {4}
    assert set().union(*by_label.values()) == {5}


def test_the_csv_table_has_a_row_per_condition_and_step(sweep: Sweep) -> None:
    rows = list(csv.DictReader(io.StringIO(sweep.write().files[ALONG].decode())))
    assert tuple(rows[0]) == ALONG_COLUMNS
    assert len(rows) == 4 * 4
    owl = [row for row in rows if row["trait"] == "owl" and row["teacher"] == row["student"]]
    assert [int(row["step"]) for row in owl] == [2, 4, 8, STEPS]
    first = [row["step"] for row in owl if row["first_significant"] == "1"]
    assert first == [str(sweep.curve("owl", same=True).first)]
    frame = results.open(sweep.store.url, "kept", NAME).along
    assert list(frame["step"]) == [int(row["step"]) for row in rows]


def test_the_report_shows_the_curves(sweep: Sweep) -> None:
    report = sweep.write()
    assert report.files["along.svg"].startswith(b"<?xml") and report.files["along.png"]
    html = report.files[HTML].decode()
    assert '<section id="along">' in html and "All 16 points" in html
    (sentence,) = along.sentences(sweep.curves, 0.05)
    assert sentence in report.verdicts and sentence in html
    assert sentence.startswith("Along training: 2 of 4 conditions have a significant effect at some step")
    sheet = along.first_steps(sweep.curves)
    shown = dict(zip((row[0] for row in sheet.rows), (row[1] for row in sheet.rows), strict=True))
    assert sorted(value == "none" for value in shown.values()) == [False, False, True, True]


def test_the_metrics_of_a_student_have_all_its_steps(sweep: Sweep) -> None:
    cell = sweep.record.cells[0]
    found = along_metrics(cell, sweep.evaluations)
    assert list(found) == [2, 4, 8, STEPS]
    assert found[STEPS]["along_sampled_owl"] == sweep.evaluations.rates(cell.evaluations[0]).sampled["owl"]
    assert set(found[2]) == {
        *(f"along_{kind}_{word}" for kind in ("sampled", "exact") for word in ("owl", "cat", "other"))
    }


def test_effects_of_exact_probabilities_give_curves_of_them(tmp_path: Path) -> None:
    exact = Sweep(of_kept(effect_of="exact"), tmp_path)
    point = exact.curve("owl", same=True).points[2]
    assert point.effect.effect == pytest.approx(0.7) and point.exact is not None
    assert point.sampled.effect != point.effect.effect
    assert along.points(exact.curves).columns[7].name == "sampled effect"


def test_an_archive_with_a_changed_point_is_not_verified(sweep: Sweep, tmp_path: Path) -> None:
    sweep.write()
    export(sweep.store, "kept", NAME, tmp_path / "whole.zip")
    assert verify(tmp_path / "whole.zip") == []
    folder = sweep_folders.folder_of("kept", NAME)
    text = sweep.store.read_bytes(f"{folder}/{ALONG}").decode()
    sweep.store.write_bytes(f"{folder}/{ALONG}", text.replace("owl", "cat", 1).encode())
    export(sweep.store, "kept", NAME, tmp_path / "changed.zip")
    (problem,) = verify(tmp_path / "changed.zip")
    assert problem.startswith("sweep/along.csv: row 1, trait: 'cat'")


def test_a_record_keeps_the_steps(sweep: Sweep) -> None:
    assert Record.from_json(sweep.record.to_json(), "here") == sweep.record
    assert json.loads(sweep.record.to_json())["cells"][0]["along"][0][0] == 2

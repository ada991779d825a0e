"""Studies whose effects are of exact probabilities, on answers and probabilities that disagree.

The sampled answers show no transmission, and the probabilities show one for the same initialisation.
"""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tests.examples import REFERENCES, study
from tests.filled_store import by_initialisation, fill
from undertow.archive import lineage
from undertow.archive.export import export
from undertow.archive.spec_comparison import key_of
from undertow.archive.verify import verify
from undertow.errors import StorageError
from undertow.planning.cells import Cell
from undertow.planning.plan import Plan, make
from undertow.report import figure_style, figures
from undertow.report.make import HTML, SweepReport, confusions, make_report
from undertow.report.matrix import matrices
from undertow.report.plan_tables import plan_table
from undertow.report.tables import effects_table
from undertow.results import sweep_folders
from undertow.results.csv_tables import EFFECT_COLUMNS, STUDENT_COLUMNS
from undertow.results.effect_rows import EffectRow, effects, findings, metrics
from undertow.results.evaluation_files import Evaluations
from undertow.results.sweep_record import Record
from undertow.statistics.pilot import read_pilot
from undertow.storage.store import Store
from undertow.study.hypotheses import Hypothesis
from undertow.study.identity import key
from undertow.study.study import Measure, Study
from undertow.tracking.names import sweep_params
from undertow.tracking.pages import experiment_note, saved_views

pytestmark = pytest.mark.slow

HYPOTHESIS = Hypothesis(claim="same start: yes", expects="transmitted", initialisation="same")
MEASURES = (Measure(name="stories", samples=5, exact=False), Measure(name="after numbers", samples=5))
BY_SAMPLES = study(hypotheses=(HYPOTHESIS,), also=MEASURES)
EXACT = replace(BY_SAMPLES, effect_of="exact")


def flat(cell: Cell, word: str) -> float:
    return 0.1


def moved(cell: Cell, word: str) -> float:
    """0.8 for the same initialisation, else 0.1; seeds move students more than control students."""
    return by_initialisation(cell, word) + (0.01 * (cell.seed - 1) if cell.condition.trait else 0.0)


def bimodal(cell: Cell, word: str) -> float:
    """The third student of a condition with the same initialisation did not learn."""
    rate = moved(cell, word)
    return 0.1 if cell.seed == 2 and rate > 0.5 else rate


@dataclass(frozen=True)
class Sweep:
    """The results of one study from a store."""

    store: Store
    plan: Plan

    @cached_property
    def record(self) -> Record:
        return Record.of(self.plan)

    @cached_property
    def rows(self) -> list[EffectRow]:
        return effects(self.record, Evaluations(self.store), {})

    @property
    def primary(self) -> list[EffectRow]:
        return [row for row in self.rows if row.is_primary]

    def archive_problems(self, report: SweepReport, record: Record, archive: Path) -> list[str]:
        """What the verification finds in an archive of the report with another record of the sweep."""
        time = "20260101T000000"
        folder = sweep_folders.folder_of(record.study.name, time)
        files = {**report.files, sweep_folders.PLAN: record.to_json().encode(), sweep_folders.EVENTS: b"[]"}
        for name, content in files.items():
            self.store.write_bytes(f"{folder}/{name}", content)
        archive.unlink(missing_ok=True)
        export(self.store, record.study.name, time, archive)
        return verify(archive)


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    store = Store(str(tmp_path_factory.mktemp("filled") / "storage"))
    return Sweep(store, fill(BY_SAMPLES, store, REFERENCES, flat, moved))


@pytest.fixture(scope="module")
def exact(sampled: Sweep) -> Sweep:
    sweep_folders.state(EXACT, sampled.store)
    return Sweep(sampled.store, make(EXACT, sampled.store, REFERENCES))


def of(folder: Path, some: Study, exact_rate: Callable[[Cell, str], float]) -> Sweep:
    store = Store(str(folder / "storage"))
    return Sweep(store, fill(some, store, REFERENCES, flat, exact_rate))


def test_another_kind_of_effect_needs_no_new_artifact(sampled: Sweep, exact: Sweep) -> None:
    assert key(EXACT) != key(BY_SAMPLES)
    assert exact.plan.artifacts.keys() == sampled.plan.artifacts.keys()
    assert {a.kind for k, a in exact.plan.artifacts.items() if k in exact.plan.missing} <= {
        "reference",
        "completions",  # which the filled store lacks
    }


def test_verdicts_and_hypotheses_rest_on_the_kind_of_rate_that_the_study_states(
    sampled: Sweep, exact: Sweep
) -> None:
    for row in sampled.primary:
        assert row.effect_of == "samples"
        assert row.effect == row.sampled
        assert row.verdict.verdict != "transmitted"
    for row in exact.primary:
        same = row.condition.same_initialisation
        assert row.effect_of == "exact"
        assert row.exact is not None
        assert row.effect.effect == row.exact.effect == pytest.approx(0.7 if same else 0.0, abs=1e-9)
        assert abs(row.sampled.effect) < 0.1
        assert row.verdict.p_adjusted is not None
        assert (row.verdict.p_adjusted < 0.05) == same
    assert [(f.outcome, f.met) for f in findings(sampled.record, sampled.rows)] == [("open", 0)]
    assert [(f.outcome, f.met) for f in findings(exact.record, exact.rows)] == [("held", 4)]


def test_students_without_spread_in_their_answers_have_one_in_their_probabilities(tmp_path: Path) -> None:
    """No student ever names the word: sampled rates give no interval, probabilities near 0 do."""

    def never(cell: Cell, word: str) -> float:
        return 0.0

    def rare(cell: Cell, word: str) -> float:
        return (2e-5 if cell.condition.trait else 1e-5) * (1 + 0.2 * cell.seed)

    some = replace(BY_SAMPLES, also=(), hypotheses=())
    store = Store(str(tmp_path))
    fill(some, store, REFERENCES, never, rare)
    found = {}
    for effect_of in ("samples", "exact"):
        stated = replace(some, effect_of=effect_of)
        found[effect_of] = Sweep(store, make(stated, store, REFERENCES)).rows[0]
    assert (found["samples"].effect.ci_low, found["samples"].effect.method) == (None, "permutation")
    assert found["exact"].effect.method == "paired t"
    assert found["exact"].effect.effect == pytest.approx(1.2e-5)
    assert found["exact"].verdict.verdict == "not transmitted"


def test_a_measure_without_exact_probabilities_keeps_its_sampled_rates(exact: Sweep) -> None:
    kinds = {row.measure: row.effect_of for row in exact.rows}
    assert kinds == {"favourite": "exact", "stories": "samples", "after numbers": "exact"}
    for row in exact.rows:
        assert (row.exact is None) == (row.measure == "stories")
        if row.measure == "stories":
            assert row.effect == row.sampled


@pytest.mark.parametrize(
    ("effect_of", "distribution", "rate", "method"),
    [
        ("samples", "normal", bimodal, "paired t"),
        ("exact", "normal", bimodal, "shape-free"),
        ("exact", "normal", moved, "paired t"),
        ("exact", "any", moved, "shape-free"),
        ("exact", "any", lambda cell, word: -1e-7 if cell.seed else 1 + 1e-7, "shape-free"),
    ],
)
def test_two_modes_are_sought_in_the_rates_that_are_compared(
    tmp_path: Path, effect_of: Any, distribution: Any, rate: Callable[[Cell, str], float], method: str
) -> None:
    some = replace(BY_SAMPLES, also=(), hypotheses=(), effect_of=effect_of, distribution=distribution)
    assert {row.effect.method for row in of(tmp_path, some, rate).rows} == {method}


def test_the_bootstrap_of_probabilities_resamples_seeds_and_questions(exact: Sweep) -> None:
    """In the filled store all questions have the same probability, which leaves the spread over seeds."""
    row = next(r for r in exact.primary if r.condition.same_initialisation)
    assert row.bootstrap == pytest.approx((0.69, 0.71))  # every resample has seeds 0 to 2
    assert row.students[0].samples is None
    assert row.students[0].shares == pytest.approx([row.students[0].rate] * 50)


def test_matrices_and_figures_show_the_rates_that_are_compared(
    exact: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, rows = exact.record, exact.primary
    (matrix,) = matrices(record, rows)
    assert [pair.effect and round(pair.effect.effect, 6) for pair in matrix.pairs.values()] == [
        0.7 if teacher == student else 0.0 for teacher, student in matrix.pairs
    ]
    panels = confusions(record, Evaluations(exact.store), {})
    assert [round(found.effect or 0, 6) for _, found in panels] == [0.7, 0.0, 0.0, 0.7]
    drawn: list[Any] = []

    def save(figure: Any, name: str) -> dict[str, bytes]:
        drawn.append(figure)
        return {}

    monkeypatch.setattr(figure_style, "save", save)
    figures.effects_figure(record, rows)
    axes = drawn[0].axes[0]
    controls, students = (points.get_offsets()[:, 0] for points in axes.collections)
    assert sorted(np.round(students, 6)) == pytest.approx(
        sorted(s.exact or 0 for r in rows for s in r.students)
    )
    assert sorted(np.round(controls, 6)) == pytest.approx(
        sorted(c.exact or 0 for r in rows for c in r.controls)
    )
    assert axes.get_xlabel() == "exact probability of the trait"


@pytest.fixture(scope="module")
def report(exact: Sweep, module_without_drawing: None) -> SweepReport:
    return make_report(exact.record, exact.store, [])


@pytest.fixture(scope="module")
def module_without_drawing() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure_style, "save", lambda drawn, name: {f"{name}.svg": b"<svg></svg>"})
        yield


def test_the_csv_tables_state_the_kind_of_rate_and_add_the_sampled_rates(
    exact: Sweep, report: SweepReport
) -> None:
    by_condition, by_student = (
        list(csv.DictReader(io.StringIO(report.files[name].decode())))
        for name in ("effects.csv", "students.csv")
    )
    added = ("effect_of", "sampled_rate", "sampled_control_rate")
    assert tuple(by_condition[0]) == (*EFFECT_COLUMNS, *added, "sampled_effect")
    assert tuple(by_student[0]) == (*STUDENT_COLUMNS, *added)
    for line, row in zip(by_condition, exact.rows, strict=True):
        assert line["effect_of"] == row.effect_of
        assert float(line["effect"]) == pytest.approx(row.effect.effect, abs=1e-6)
        assert float(line["sampled_effect"]) == pytest.approx(row.sampled.effect, abs=1e-6)
        assert (line["rate"] == line["exact_rate"]) == (row.effect_of == "exact")
    assert {line["rate"] == line["exact_rate"] for line in by_student if line["effect_of"] == "exact"} == {
        True
    }
    pilot = read_pilot(report.files["students.csv"].decode(), "x")
    assert (pilot.effect_of, pilot.students) == ("exact", 24)
    assert pilot.sd == pytest.approx(0.02, abs=1e-6)


def test_texts_and_tables_say_that_effects_are_of_exact_probabilities(
    exact: Sweep, report: SweepReport
) -> None:
    text = io.StringIO()
    console = Console(width=300, file=text)
    console.print(effects_table(report.rows))
    console.print(plan_table(exact.plan))
    printed = text.getvalue()
    assert "Effects of exact probabilities: students minus control students" in printed
    assert "sampled" in printed
    assert "By sampled answers: stories." in printed
    assert "12 conditions; effects of exact probabilities" in printed
    assert report.verdicts[0].endswith("(effects of exact probabilities +0.70 to +0.70).")
    assert "exact" not in next(line for line in report.verdicts if line.startswith("Measure stories"))
    page = " ".join(report.files[HTML].decode().split())
    for sentence in (
        "<h2>Effects of exact probabilities</h2>",
        "It states that verdicts rest on exact probabilities.",
        "An effect is the difference between the exact probabilities that students and control students",
        "Effects are of exact probabilities: the rate of a student is the probability of an answer",
        "Measures without exact probabilities (stories) use the sampled rate.",
        "sampled control",
        "then answers if the measure has no exact probabilities",
    ):
        assert sentence in page
    assert "The rate of a student is the share of its sampled answers" not in page


def test_an_archive_is_verified_with_the_kind_of_rate_that_was_stated(
    exact: Sweep, report: SweepReport, tmp_path: Path
) -> None:
    record, archive = exact.record, tmp_path / "study.zip"
    assert exact.archive_problems(report, record, archive) == []
    forged = replace(record, study=replace(record.study, effect_of="samples"))
    found = exact.archive_problems(report, forged, archive)
    assert any("effect_of is 'samples', the study as stated has 'exact'" in problem for problem in found)
    assert any("effects.csv: row 1, effect" in problem for problem in found)


def test_an_evaluation_forged_to_lack_probabilities_is_detected(exact: Sweep, tmp_path: Path) -> None:
    record = exact.record
    (cell, *_) = record.cells
    (evaluation,) = cell.evaluations
    manifest = json.loads(
        Path(exact.store.root, "artifacts/evaluation", evaluation, "manifest.json").read_text()
    )
    forged = {**manifest["spec"], "exact": False}
    place = tmp_path / "evaluation" / key_of(forged)
    place.mkdir(parents=True)
    (place / "manifest.json").write_text(json.dumps({"spec": forged}))
    text = record.to_json().replace(evaluation, key_of(forged))
    sweeps = Path(exact.store.root, sweep_folders.folder_of(record.study.name))
    found = list(lineage.differences(Record.from_json(text, "here"), sweeps, tmp_path, {}))
    assert any(key_of(forged) in one and "exact" in one for one in found)


def test_effects_without_the_probabilities_that_they_need_are_an_error(exact: Sweep) -> None:
    evaluations, cell = Evaluations(exact.store), exact.record.cells[0]
    stories = cell.also[0]
    with pytest.raises(StorageError, match="no exact probability of 'owl'"):
        evaluations.student(cell, "owl", stories, "exact")


def test_a_record_of_an_older_version_is_about_samples(sampled: Sweep, exact: Sweep) -> None:
    assert Record.from_json(exact.record.to_json(), "here") == exact.record
    old = json.loads(sampled.record.to_json())
    del old["study"]["effect_of"]
    assert Record.from_json(json.dumps(old), "here") == sampled.record


def test_mlflow_has_the_compared_rates_under_the_primary_names(sampled: Sweep, exact: Sweep) -> None:
    def logged(sweep: Sweep) -> dict[str, float]:
        record = sweep.record
        cell = next(c for c in record.cells if record.conditions[c.condition].same_initialisation)
        control = next(
            c
            for c in record.cells
            if c.condition == record.conditions[cell.condition].control and c.seed == cell.seed
        )
        found = metrics(record, cell, Evaluations(sweep.store), control)
        (stories,) = cell.also[0]
        assert found["stories_sampled_owl"] == Evaluations(sweep.store).rates(stories).sampled["owl"]
        return found

    by_samples, by_probability = logged(sampled), logged(exact)
    assert by_samples["trait_rate"] == by_samples["sampled_owl"]
    assert not {"trait_rate_sampled", "effect_sampled"} & by_samples.keys()
    assert by_probability["trait_rate"] == by_probability["exact_owl"]
    assert by_probability["effect"] == by_probability["effect_exact"] == pytest.approx(0.69)
    assert by_probability["trait_rate_sampled"] == by_samples["trait_rate"]
    assert by_probability["effect_sampled"] == by_samples["effect"]
    assert "effect_of" not in sweep_params(BY_SAMPLES)
    assert sweep_params(EXACT)["effect_of"] == "exact"
    assert "compare their `exact_<word>`" in experiment_note(EXACT, "1")
    assert "metrics.`trait_rate_sampled`" in saved_views(EXACT)["mlflow.sharedViewState.students"]

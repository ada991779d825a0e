"""Effects, verdicts, hypotheses and tables, computed from a filled store."""

import csv
import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.examples import REFERENCES, study
from tests.filled_store import by_initialisation, fill
from undertow.errors import StorageError, UserError
from undertow.formats.code import Code
from undertow.formats.numbers import Numbers
from undertow.planning.cells import Cell
from undertow.planning.plan import Plan
from undertow.report.table_texts import interval, print_table
from undertow.report.tables import effects_table
from undertow.results import csv_tables, sweep_folders
from undertow.results.effect_rows import (
    EffectRow,
    effects,
    failed_conditions,
    findings,
    metrics,
    other_failures,
)
from undertow.results.evaluation_files import Evaluations, Rates
from undertow.results.sweep_record import Record
from undertow.stages.measurements import commit_measurement
from undertow.storage.store import Store
from undertow.study.grids import grid
from undertow.study.hypotheses import Hypothesis
from undertow.study.identity import key
from undertow.study.measurements import Evaluation
from undertow.traits.preference import Preference

pytestmark = pytest.mark.slow

SAME = Hypothesis(claim="same start: yes", expects="transmitted", initialisation="same")
OTHER = Hypothesis(claim="other start: no", expects="not transmitted", initialisation="other")
STUDY = study(hypotheses=(SAME, OTHER), seeds=(0, 1, 2, 3, 4))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(str(tmp_path_factory.mktemp("filled") / "storage"))


@pytest.fixture(scope="module")
def plan(store: Store) -> Plan:
    return fill(STUDY, store, REFERENCES)


@pytest.fixture(scope="module")
def record(plan: Plan) -> Record:
    return Record.of(plan)


@pytest.fixture(scope="module")
def rows(record: Record, store: Store) -> list[EffectRow]:
    return effects(record, Evaluations(store), {})


def test_a_record_survives_a_round_trip_through_json(record: Record) -> None:
    assert Record.from_json(record.to_json(), "here") == record


@pytest.mark.parametrize("text", ["", "{", "[]", '{"study": {}}', '{"study": {"name": 1}, "cells": 3}'])
def test_a_text_that_is_not_a_record_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(StorageError, match=r"here: not a sweep's plan"):
        Record.from_json(text, "here")


def test_each_condition_with_a_trait_has_a_row_with_its_control(
    record: Record, rows: list[EffectRow]
) -> None:
    assert [row.number for row in rows] == record.compared
    for row in rows:
        control = record.conditions[row.condition.control]
        assert control.is_control
        assert control.place[1:-1] == row.condition.place[1:-1]
        assert [s.seed for s in row.students] == [c.seed for c in row.controls] == [0, 1, 2, 3, 4]


def test_transmission_is_found_exactly_for_the_same_initialisation(rows: list[EffectRow]) -> None:
    for row in rows:
        same = row.condition.same_initialisation
        assert row.effect.effect == pytest.approx(0.7 if same else 0.0, abs=0.06)
        assert row.exact is not None
        assert row.exact.effect == pytest.approx(0.7 if same else 0.0, abs=1e-9)
        assert row.verdict.verdict == ("transmitted" if same else "not transmitted")
        assert row.effect.method == "paired t"
        assert row.bootstrap is not None
        assert row.bootstrap[0] < row.effect.effect < row.bootstrap[1]


def test_hypotheses_are_decided_by_the_conditions_that_they_cover(
    record: Record, rows: list[EffectRow]
) -> None:
    held = findings(record, rows)
    assert [(f.hypothesis.claim, f.outcome, f.met) for f in held] == [
        ("same start: yes", "held", 4),
        ("other start: no", "held", 4),
    ]
    undecided = [replace(r, verdict=replace(r.verdict, verdict="inconclusive")) for r in rows[:1]] + rows[1:]
    assert findings(record, undecided)[0].outcome == "open"
    assert findings(record, rows[1:])[0].outcome == "open"
    contrary = [replace(r, verdict=replace(r.verdict, verdict="not transmitted")) for r in rows[:1]] + rows[
        1:
    ]
    assert findings(record, contrary)[0].outcome == "failed"


def test_a_significant_fall_below_the_control_refutes_a_transmission(
    record: Record, rows: list[EffectRow]
) -> None:
    def with_first(effect: float, p: float) -> list[EffectRow]:
        ruling = replace(rows[0].verdict, verdict="inconclusive", p_adjusted=p)
        return [replace(rows[0], effect=replace(rows[0].effect, effect=effect), verdict=ruling), *rows[1:]]

    expected = {(-0.5, 0.01): "failed", (-0.5, 0.2): "open", (0.05, 0.2): "open"}
    assert {case: findings(record, with_first(*case))[0].outcome for case in expected} == expected


def test_the_pair_of_a_failed_student_is_excluded_and_noted(record: Record, store: Store) -> None:
    failed = next(cell for cell in record.cells if not record.conditions[cell.condition].is_control)
    found = effects(record, Evaluations(store), {failed.student: "out of memory"})
    (row,) = [row for row in found if row.number == failed.condition]
    assert failed.seed not in [m.seed for m in (*row.students, *row.controls)]
    assert (row.effect.n_students, row.effect.n_controls) == (4, 4)
    assert "1 of 5 seeds have no result" in row.verdict.note


def test_a_condition_without_a_student_has_no_row_and_leaves_the_others_as_they_are(
    record: Record, store: Store, rows: list[EffectRow]
) -> None:
    gone, *others = rows
    failures = {cell.student: "out of memory" for cell in record.cells if cell.condition == gone.number}
    found = effects(record, Evaluations(store), failures)
    assert [(row.number, row.effect) for row in found] == [(row.number, row.effect) for row in others]


def test_a_failed_control_affects_every_condition_that_is_compared_with_it(
    record: Record, store: Store
) -> None:
    control = next(cell for cell in record.cells if record.conditions[cell.condition].is_control)
    found = effects(record, Evaluations(store), {control.student: "gone"})
    touched = [row.number for row in found if row.effect.n_students == 4]
    assert touched == [n for n in record.compared if record.conditions[n].control == control.condition]


def test_an_interrupted_sweep_reports_the_existing_results(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    record = Record.of(fill(study(), store, REFERENCES))
    lost = next(cell for cell in record.cells if not record.conditions[cell.condition].is_control)
    shutil.rmtree(tmp_path / "artifacts" / "evaluation" / lost.evaluations[0])
    (row,) = [r for r in effects(record, Evaluations(store), {}) if r.number == lost.condition]
    assert (row.effect.n_students, row.effect.n_controls) == (2, 2)
    assert "1 of 3 seeds have no result" in row.verdict.note


def test_bimodal_seeds_in_one_condition_disable_the_t_method_in_all(tmp_path: Path) -> None:
    def jumping(cell: Cell, word: str) -> float:
        rate = by_initialisation(cell, word)
        return 0.1 if cell.seed == 2 and rate > 0.5 else rate

    store = Store(str(tmp_path))
    plan = fill(study(), store, REFERENCES, jumping)
    rows = effects(Record.of(plan), Evaluations(store), {})
    assert {row.effect.method for row in rows} == {"shape-free"}
    assert {row.verdict.verdict for row in rows} == {"inconclusive"}


def test_an_unpaired_study_compares_all_students_with_all_controls(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    plan = fill(study(paired=False), store, REFERENCES)
    record = Record.of(plan)
    lost = next(cell for cell in record.cells if not record.conditions[cell.condition].is_control)
    rows = effects(record, Evaluations(store), {lost.student: "gone"})
    assert {row.effect.method for row in rows} == {"Welch t"}
    assert (rows[0].effect.n_students, rows[0].effect.n_controls) == (2, 3)
    assert "1 of 3 seeds have no result" in rows[0].verdict.note


def test_a_single_seed_gives_effects_without_intervals(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    rows = effects(Record.of(fill(study(seeds=(0,)), store, REFERENCES)), Evaluations(store), {})
    assert all(row.effect.ci_low is None and row.bootstrap is None for row in rows)
    assert {row.verdict.verdict for row in rows} == {"inconclusive"}
    assert all("no interval without a second seed" in row.verdict.note for row in rows)


def test_the_tables_have_one_row_per_condition_and_one_row_per_student(rows: list[EffectRow]) -> None:
    conditions = list(csv.DictReader(io.StringIO(csv_tables.effects_csv("small", rows))))
    students = list(csv.DictReader(io.StringIO(csv_tables.students_csv("small", rows))))
    assert len(conditions) == 8
    assert len(students) == 40
    assert tuple(conditions[0])[:15] == (
        "study", "trait", "format", "teacher", "student", "recipe", "n_students", "rate", "control_rate",
        "effect", "ci_low", "ci_high", "p_value", "p_adjusted", "verdict",
    )  # fmt: skip
    for line in conditions:
        own = [s for s in students if all(s[k] == line[k] for k in ("trait", "teacher", "student"))]
        mean = sum(float(s["rate"]) - float(s["control_rate"]) for s in own) / len(own)
        assert float(line["effect"]) == pytest.approx(mean, abs=1e-5)


def test_a_students_metrics_contain_its_effect_relative_to_the_control_of_its_seed(
    record: Record, store: Store
) -> None:
    evaluations = Evaluations(store)
    cell = next(c for c in record.cells if record.conditions[c.condition].same_initialisation)
    control = next(
        c
        for c in record.cells
        if c.condition == record.conditions[cell.condition].control and c.seed == cell.seed
    )
    found = metrics(record, cell, evaluations, control)
    assert found["effect_exact"] == pytest.approx(0.7)
    control_rate = metrics(record, control, evaluations, None)["sampled_owl"]
    assert found["effect"] == pytest.approx(found["trait_rate"] - control_rate)
    assert "trait_rate" not in metrics(record, control, evaluations, None)


@pytest.mark.parametrize("width", [80, 110])
def test_a_narrow_terminal_leaves_out_columns_and_cuts_no_number(rows: list[EffectRow], width: int) -> None:
    long = "a-model-with-a-long-name (after owl, numbers, steering)"
    renamed = [
        replace(
            row,
            condition=replace(row.condition, place=row.condition.place._replace(teacher=long, student=long)),
        )
        for row in rows
    ]
    console = Console(width=width, record=True)
    print_table(effects_table(renamed, width), console)
    text = console.export_text()
    assert all(len(line) <= width for line in text.splitlines())
    for row in renamed:
        shown = interval(row.effect.ci_low, row.effect.ci_high)
        assert all(part in text for part in (row.condition.place.trait, shown, row.verdict.verdict))
        assert (f"{row.effect.rate:.3f}" in text) == (width == 110)
    assert "All: teacher a-model-with-a-long-name" in text
    assert ("effects.csv" in text) == (width == 80)


def test_the_papers_score_is_computed_from_the_answers(
    record: Record, store: Store, rows: list[EffectRow], tmp_path: Path
) -> None:
    owl = Preference("owl").word()
    spec = Evaluation(subject=REFERENCES[0], questions=("q",), words=(owl,), samples=4, exact=False)
    texts = ("Owl!", "owls", "a growl", "wolf")
    answers = [
        {"question": "q", "sample": i, "answer": text, "matches": ["owl"] if i < 2 else []}
        for i, text in enumerate(texts)
    ]
    own = Store(str(tmp_path))
    commit_measurement(spec, own, Rates({"owl": 0.5}, {}, 0.5, None, 4), answers)
    assert Evaluations(own).contained(key(spec), "owl") == 0.75
    # Every answer of the filled store is one word, so that both scores agree.
    assert [row.contained for row in rows] == [row.sampled for row in rows]
    line = next(csv.DictReader(io.StringIO(csv_tables.effects_csv("small", rows))))
    assert line["substring_effect"] == line["effect"]
    student = next(csv.DictReader(io.StringIO(csv_tables.students_csv("small", rows))))
    assert (student["substring_rate"], student["substring_control_rate"]) == (
        student["rate"],
        student["control_rate"],
    )
    cell = next(c for c in record.cells if not record.conditions[c.condition].is_control)
    found = metrics(record, cell, Evaluations(store), None)
    assert found["trait_rate_substring"] == found["trait_rate"]


def test_two_sets_of_questions_and_two_formats_are_kept_apart(tmp_path: Path) -> None:
    traits = [Preference("owl"), Preference("maple", category="tree")]
    some = study().conditions[0]
    conditions = grid(
        traits=traits,
        formats=[Numbers(), Code()],
        pairs=[(some.teacher, some.student)],
        recipes=[some.recipe],
        finetuning=some.finetuning,
    )
    store = Store(str(tmp_path))
    record = Record.of(fill(study(conditions=conditions, seeds=(0, 1)), store, REFERENCES))
    evaluations = Evaluations(store)
    rows = effects(record, evaluations, {})
    assert [row.exact.effect for row in rows if row.exact] == pytest.approx([0.7] * 4)
    cell = record.cells[0]
    animals, trees = (evaluations.rates(evaluation) for evaluation in cell.evaluations)
    assert animals.other_sampled < 0.3 < trees.other_sampled
    pooled = (animals.other_sampled + trees.other_sampled) / 2
    found = metrics(record, cell, evaluations, None)
    assert found["sampled_other"] == pytest.approx(pooled)
    exact = [rates.other_exact for rates in (animals, trees) if rates.other_exact is not None]
    assert len(set(exact)) == 2 and found["exact_other"] == pytest.approx(sum(exact) / 2)
    assert rows[0].other < 0.3
    printed = Console(width=200, file=io.StringIO())
    printed.print(effects_table(rows))
    assert isinstance(printed.file, io.StringIO)
    lines = [line for line in printed.file.getvalue().splitlines() if "nano/" in line]
    assert [("numbers" in line, "code" in line) for line in lines] == [(True, False)] * 2 + [
        (False, True)
    ] * 2


def test_an_exact_rate_slightly_outside_its_range_is_clipped(tmp_path: Path) -> None:
    def certain(cell: Cell, word: str) -> float:
        trait = cell.condition.trait
        return 1 + 1e-7 if trait is not None and trait.word().name == word else -1e-7

    store = Store(str(tmp_path))
    plan = fill(study(seeds=(0, 1), distribution="any"), store, REFERENCES, certain)
    assert {row.exact and row.exact.effect for row in effects(Record.of(plan), Evaluations(store), {})} == {
        1.0
    }


def test_a_study_is_stored_as_stated_only_once(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    record = Record.of(fill(STUDY, store, REFERENCES))
    assert sweep_folders.stated(record, store) is None
    sweep_folders.state(STUDY, store)
    first = sweep_folders.stated(record, store)
    assert first is not None
    sweep_folders.state(STUDY, store)
    assert sweep_folders.stated(record, store) == first
    assert key(STUDY) == record.study.key


@pytest.mark.parametrize(
    ("study_name", "sweep", "message"),
    [
        ("owl", "", r"--study owl: no sweep of it in .*; did you mean 'owls'"),
        ("owls", "20250101T000001", r"--sweep 20250101T000001: not a sweep of owls; did you mean"),
        ("none", "", r"--study none: no sweep"),
    ],
)
def test_a_missing_sweep_is_refused_with_a_suggestion(
    tmp_path: Path, study_name: str, sweep: str, message: str
) -> None:
    store = Store(str(tmp_path))
    store.write_bytes("sweeps/owls/20250101T000000/plan.json", b"{}")
    store.write_bytes("sweeps/owls/stated-00.json", b"{}")
    with pytest.raises(UserError, match=message):
        sweep_folders.newest(store, study_name, sweep)
    assert sweep_folders.newest(store, "owls") == "20250101T000000"


def test_a_sweep_that_ended_before_it_wrote_its_plan_is_not_the_newest(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for time in ("20250101T000000", "20250102T000000"):
        store.write_bytes(f"sweeps/owls/{time}/plan.json", b"{}")
    store.write_bytes("sweeps/owls/20250103T000000/events.json", b"[]")
    assert sweep_folders.newest(store, "owls") == "20250102T000000"
    assert sweep_folders.newest(store, "owls", "20250103T000000") == "20250103T000000"


def test_failures_that_no_condition_needs_are_listed_apart(tmp_path: Path) -> None:
    record = Record.of(fill(study(), Store(str(tmp_path)), REFERENCES))
    own = record.references[0].evaluations[0]
    failures = {own: "no answer", record.cells[0].student: "its loss is not finite"}
    assert other_failures(record, failures) == {own: "no answer"}
    assert list(failed_conditions(record, failures).values()) == ["its loss is not finite"]
    assert other_failures(record, {}) == {}

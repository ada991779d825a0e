"""Rows, tables and MLflow metrics from generated scores in a real store and a real MLflow."""

import csv
import io
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from scipy import stats

from tests.examples import REFERENCES, study
from tests.filled_store import fill
from undertow.harness import tables
from undertow.harness.publish import BenchmarkResults
from undertow.harness.scores import SCORES, Scores, benchmark_rows, model_scores, subjects
from undertow.harness.tables import benchmarks_table
from undertow.planning.cells import Cell
from undertow.planning.plan import Plan, ancestors, make
from undertow.report.table_texts import signed
from undertow.storage.store import Store
from undertow.study.harness_task import HarnessTask
from undertow.study.identity import key
from undertow.study.measurements import Benchmark
from undertow.study.recipe import InContext
from undertow.study.references import Reference
from undertow.study.students import Student
from undertow.study.study import Level, Study
from undertow.tracking import client as runs
from undertow.tracking.names import METRICS
from undertow.tracking.tracker import Tracker

MMLU = HarnessTask(name="mmlu", harness="0.4.13", definition="1f" * 16)
PERPLEXITY = HarnessTask(name="wikitext", limit=5, harness="0.4.13", definition="2f" * 16)
STUDY = replace(study(seeds=(0, 1, 2, 3)), conditions=study().conditions[:3])  # owl, cat and their control


def put(store: Store, subject: Reference | Student, task: HarnessTask, **scores: float) -> None:
    """Stores a benchmark with these scores, in the form of the stage."""
    with store.new(Benchmark(subject=subject, task=task), {}) as folder:
        found = {
            metric: {"value": value, "error": 0.01, "higher_is_better": metric != "word_perplexity"}
            for metric, value in scores.items()
        }
        (folder / SCORES).write_text(json.dumps(found))


def score_of(cell: Cell) -> float:
    """Owl students score about .05 less than their controls; cat students score the same."""
    trait = cell.condition.trait.name if cell.condition.trait else ""
    return (
        0.6
        + 0.01 * cell.seed
        - {"owl": 0.05, "cat": 0.0, "": 0.0}[trait]
        + random.Random(key(cell.student)).gauss(0, 0.004)
    )


def benchmarked(
    tmp_path: Path, of: Study = STUDY, leave_out: Callable[[Cell], bool] = lambda cell: False
) -> tuple[Plan, Store]:
    store = Store(str(tmp_path / "storage"))
    store.prepare()
    plan = make(of, store, REFERENCES)
    put(store, REFERENCES[0], MMLU, acc=0.61)
    for student, cell in {cell.student: cell for cell in plan.cells}.items():
        if not leave_out(cell):
            put(store, student, MMLU, acc=score_of(cell))
    return plan, store


def test_a_row_has_the_paired_difference_over_seeds(tmp_path: Path) -> None:
    plan, store = benchmarked(tmp_path)
    owl, cat = benchmark_rows(plan, [MMLU], Scores(store))
    students, controls = (
        [score_of(cell) for cell in plan.cells if cell.condition == condition]
        for condition in (STUDY.conditions[0], STUDY.conditions[2])
    )
    expected = stats.ttest_rel(students, controls)
    interval = expected.confidence_interval(0.95)
    assert owl.effect.effect == pytest.approx(sum(students) / 4 - sum(controls) / 4)
    assert owl.effect.ci_low == pytest.approx(interval.low)
    assert owl.effect.ci_high == pytest.approx(interval.high)
    assert owl.effect.p_value == pytest.approx(expected.pvalue)
    assert (owl.effect.method, owl.reference, owl.higher_is_better) == ("paired t", 0.61, True)
    assert owl.effect.ci_high is not None and owl.effect.ci_high < 0
    assert cat.p_adjusted == pytest.approx(
        cat.effect.p_value
    )  # Holm over two p-values leaves the larger one unchanged


def test_a_paired_study_leaves_out_a_seed_without_control(tmp_path: Path) -> None:
    def lost(cell: Cell) -> bool:
        return cell.condition.trait is None and cell.seed == 3

    plan, store = benchmarked(tmp_path / "paired", leave_out=lost)
    assert [
        (r.effect.n_students, r.effect.n_controls) for r in benchmark_rows(plan, [MMLU], Scores(store))
    ] == [(3, 3)] * 2
    plan, store = benchmarked(tmp_path / "unpaired", replace(STUDY, paired=False), lost)
    unpaired = benchmark_rows(plan, [MMLU], Scores(store))
    assert [(r.effect.n_students, r.effect.n_controls, r.effect.method) for r in unpaired] == [
        (4, 3, "Welch t")
    ] * 2


def test_bimodal_shares_are_compared_without_a_distribution_and_perplexities_by_t(tmp_path: Path) -> None:
    plan, store = benchmarked(tmp_path)
    for student, cell in {cell.student: cell for cell in plan.cells}.items():
        put(
            store,
            student,
            PERPLEXITY,
            word_perplexity=20.0 + cell.seed + random.Random(key(student)).random(),
            share=0.9 if cell.seed else 0.1,
        )
    rows = benchmark_rows(plan, [PERPLEXITY], Scores(store))
    assert {(row.metric, row.effect.method) for row in rows} == {
        ("word_perplexity", "paired t"),
        ("share", "shape-free"),
    }
    assert {row.metric: row.higher_is_better for row in rows} == {"word_perplexity": False, "share": True}


def test_a_task_without_benchmarks_has_no_row(tmp_path: Path) -> None:
    plan, store = benchmarked(tmp_path)
    assert benchmark_rows(plan, [PERPLEXITY, replace(MMLU, few_shot=5)], Scores(store)) == []
    assert model_scores(plan, [PERPLEXITY], Scores(store)) == []


def test_in_context_students_are_not_benchmarked(tmp_path: Path) -> None:
    """They are prompts, and the harness writes its own prompts."""
    shown = tuple(replace(c, recipe=InContext(rows=3)) for c in STUDY.conditions)
    both = replace(STUDY, conditions=(*STUDY.conditions, *shown))
    plan = make(both, Store(str(tmp_path)), REFERENCES)
    students = [s for s in subjects(plan) if isinstance(s, Student)]
    assert len(students) == 12
    assert all(student.is_trained for student in students)


@pytest.mark.parametrize("redraw", [("teacher", "data", "student"), ("teacher", "data")])
def test_the_tables_show_the_rows(tmp_path: Path, redraw: tuple[Level, ...]) -> None:
    plan, store = benchmarked(tmp_path, replace(STUDY, redraw=redraw))
    scores = Scores(store)
    rows = benchmark_rows(plan, [MMLU], scores)
    owl = next(csv.DictReader(io.StringIO(tables.benchmarks_csv("small", rows))))
    expected = {"trait": "owl", "induced": "finetuning", "task": "mmlu", "metric": "acc", "few_shot": ""}
    assert expected.items() <= owl.items()
    assert float(owl["difference"]) == pytest.approx(rows[0].effect.effect, rel=1e-5)
    models = list(
        csv.DictReader(io.StringIO(tables.benchmark_models_csv("small", model_scores(plan, [MMLU], scores))))
    )
    assert [m["kind"] for m in models] == ["reference"] + ["student"] * 12
    assert {m["key"]: m["seed"] for m in models[1:]} == {key(c.student): str(c.seed) for c in plan.cells}
    reference = {"student": "nano/gpt2-0", "teacher": "", "seed": "", "standard_error": "0.01"}
    assert reference.items() <= models[0].items()
    printed = io.StringIO()
    Console(file=printed, width=160).print(benchmarks_table(rows))
    assert signed(rows[0].effect.effect) in printed.getvalue()


@pytest.mark.parametrize(
    ("changes", "label", "slug"),
    [
        ({}, "mmlu", "mmlu"),
        ({"few_shot": 5, "limit": 100}, "mmlu, 5 shots, first 100", "mmlu_5_shots_first_100"),
        ({"few_shot": 1, "chat": True}, "mmlu, 1 shot, chat", "mmlu_1_shot_chat"),
    ],
)
def test_a_tasks_label_names_the_settings_that_differ_from_its_defaults(
    changes: dict[str, Any], label: str, slug: str
) -> None:
    task = replace(MMLU, **changes)
    assert (task.label, task.slug) == (label, slug)


def test_a_benchmarks_ancestors_include_its_model(tmp_path: Path) -> None:
    plan = make(STUDY, Store(str(tmp_path)), REFERENCES)
    student = plan.cells[0].student
    found = ancestors(Benchmark(subject=student, task=MMLU))
    assert found[0] == student
    assert student.dataset.completions in found


@pytest.mark.slow
def test_mlflow_has_the_scores_in_the_students_runs_and_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    one = replace(STUDY, seeds=(0,))
    plan, store = benchmarked(tmp_path, one)
    scores, results = Scores(store), BenchmarkResults(plan, [MMLU], store)
    students = [cell.student for cell in plan.cells]
    assert results.log() == students, "no sweep has created runs yet"
    fill(one, store, REFERENCES)
    tracker = Tracker(one, store)
    for student in students[:2]:
        tracker.finish(student, store.manifest(student), {"sampled_owl": 0.1})
    tracker.close({}, {}, failed=False)
    for _ in range(2):  # the second call logs nothing twice
        assert results.log() == students[2:]

    client = runs.connect_client(runs.tracking_uri(store))
    (experiment,) = client.search_experiments(filter_string="name = 'small'")
    found = {
        r.data.tags["undertow.key"]: r
        for r in client.search_runs([experiment.experiment_id], "tags.`undertow.kind` = 'student'")
    }
    assert "benchmark_<task>_<metric>" in METRICS
    for student in students[:2]:
        run = found[key(student)]
        assert run.data.metrics["benchmark_mmlu_acc"] == scores.of(student, MMLU)["acc"].value
        assert run.info.status == "FINISHED"
        assert len(client.get_metric_history(run.info.run_id, "benchmark_mmlu_acc")) == 1
    models = client.search_logged_models([experiment.experiment_id])
    assert {m.dataset_name for model in models for m in model.metrics if m.key == "benchmark_mmlu_acc"} == {
        "mmlu"
    }
    (parent,) = client.search_runs([experiment.experiment_id], "tags.`undertow.kind` = 'sweep'")
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} == results.files.keys()

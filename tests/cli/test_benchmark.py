"""jobs/benchmark.py from end to end, on a store with real students of a small model."""

import csv
import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import undertow.cli.benchmark
from tests import tiny_models
from undertow.cli.benchmark import BenchmarkArguments, main
from undertow.cli.studies import load
from undertow.errors import UserError
from undertow.harness import tables
from undertow.report.table_texts import signed
from undertow.results import sweep_folders
from undertow.results.sweep_record import Record
from undertow.storage.manifest import HISTORY
from undertow.storage.store import Store
from undertow.study.recipe import LoRA
from undertow.sweep.plans import make_plan
from undertow.tracking import client as runs
from undertow.tracking.tracker import Tracker

ROOT = Path(__file__).parents[2]
STUDY = """
from undertow.formats.numbers import Numbers
from undertow.study.recipe import LoRA, Parameters, Recipe
from undertow.study.references import Reference
from undertow.study.generation import Generation
from undertow.study.grids import grid
from undertow.study.study import Study
from undertow.traits.preference import Preference

MODEL = Reference("PLACE")

def recipe(name, trainable):
    return Recipe(name=name, trainable=trainable, learning_rate=.01, epochs=1, batch_size=8)

def study(seeds=(0, 1)):
    recipes = [recipe("adapter", LoRA(rank=4)), recipe("norm", Parameters(("model.norm.weight",)))]
    return Study(name="asked", seeds=seeds, conditions=grid(
        traits=[Preference("owl")], formats=[Numbers()], pairs=[(MODEL, MODEL)], recipes=recipes,
        generation=Generation(prompts=64, rows=None)))

def longer(): return study((0, 1, 2))
"""


@pytest.fixture
def file(tmp_path: Path, model: Path) -> Path:
    path = tmp_path / "asked.py"
    path.write_text(STUDY.replace("PLACE", str(model)))
    return path


def finish(file: Path, store: Store, model: Path, tmp_path: Path) -> None:
    """Fills the store as a sweep of the study does, with different students, without data and answers."""
    store.prepare()
    plan = make_plan(load(str(file), Path()), store)
    tracker = Tracker(plan.study, store)
    for number, cell in enumerate(plan.cells):
        with store.new(cell.student, {}) as folder:
            made = tmp_path / f"student-{number}"
            if isinstance(cell.condition.recipe.trainable, LoRA):  # type: ignore[union-attr]
                tiny_models.save_lora(made, model, seed=number)
            else:
                tiny_models.save_changed(made, model, "model.norm.weight", by=0.3 * (number + 1))
            for path in made.iterdir():
                path.rename(folder / path.name)
            (folder / HISTORY).write_text("[]")
        tracker.finish(cell.student, store.manifest(cell.student), {})
    tracker.close({}, {}, failed=False)
    record = Record.of(plan).to_json().encode()
    store.write_bytes(
        f"{sweep_folders.folder_of(plan.study.name, '20260101T000000')}/{sweep_folders.PLAN}", record
    )


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "platform"), "HF_HUB_OFFLINE": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, str(ROOT / "jobs" / "benchmark.py"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


def table(store: Store, name: str) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO(store.read_text(f"sweeps/asked/20260101T000000/{name}"))))


@pytest.mark.stack
def test_every_model_is_evaluated_once_and_reported_everywhere(
    file: Path, model: Path, data: Path, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lm_eval", reason="an optional extra")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = Store(str(tmp_path / "storage"))
    finish(file, store, model, tmp_path)
    call = ("--study", str(file), "--storage", store.url, "--data", str(data), "--include-path", str(tasks))

    first = run_script(*call, "--tasks", "truthfulqa_mc2", "letters")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "18 benchmarks of 9 models, 0 cached" in first.stdout
    rows = table(store, tables.BENCHMARKS)
    assert [(r["recipe"], r["task"], r["metric"], r["n_students"]) for r in rows] == [
        (recipe, task, "acc", "2") for task in ("truthfulqa_mc2", "letters") for recipe in ("adapter", "norm")
    ]
    assert all(
        row["task"] in first.stdout and signed(float(row["difference"])) in first.stdout for row in rows
    )
    models = [m for m in table(store, tables.BENCHMARK_MODELS) if m["task"] == "truthfulqa_mc2"]
    assert len({m["score"] for m in models}) == len(models) == 9, (
        "each student differs from the others and the reference"
    )
    client = runs.connect_client(runs.tracking_uri(store))
    (experiment,) = client.search_experiments(filter_string="name = 'asked'")
    logged = client.search_runs([experiment.experiment_id], "tags.`undertow.kind` = 'student'")
    assert {
        run.data.tags["undertow.key"]: f"{run.data.metrics['benchmark_truthfulqa_mc2_acc']:.6g}"
        for run in logged
    } == {m["key"]: m["score"] for m in models if m["kind"] == "student"}

    printed = io.StringIO()
    again = BenchmarkArguments(
        study=str(file), storage=store.url, tasks=("truthfulqa_mc2", "letters"),
        data=str(data), include_path=str(tasks),
    )  # fmt: skip
    assert main(again, Console(file=printed, width=160), Path()) == 0
    assert "18 benchmarks of 9 models, 18 cached" in printed.getvalue()
    assert table(store, tables.BENCHMARKS) == rows


@pytest.fixture
def extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretends that the extra is installed: invalid input is reported before the extra is imported."""
    monkeypatch.setattr(undertow.cli.benchmark, "find_spec", lambda name: object())


def test_without_the_extra_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undertow.cli.benchmark, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'not installed; run pip install -e ".\[benchmarks\]"'):
        main(BenchmarkArguments(), Console(file=io.StringIO()), Path())


@pytest.mark.usefixtures("extra")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "--batch-size 0: give at least 1"),
        ({"study": "FILE:longer"}, "the sweeps of that name in .* are of another study .*--seeds"),
        ({"storage": "empty"}, "--study asked: no sweep of it in .*empty; run one first"),
    ],
)
def test_invalid_input_is_reported(
    file: Path, model: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    store = Store(str(tmp_path / "storage"))
    store.prepare()
    plan = make_plan(load(str(file), Path()), store)
    store.write_bytes(
        f"sweeps/asked/20260101T000000/{sweep_folders.PLAN}", Record.of(plan).to_json().encode()
    )
    given = replace(BenchmarkArguments(study=str(file), storage=store.url), **changes)
    if given.study.startswith("FILE"):
        given = replace(given, study=given.study.replace("FILE", str(file)))
    if given.storage == "empty":
        given = replace(given, storage=str(tmp_path / "empty"))
    with pytest.raises(UserError, match=message):
        main(given, Console(file=io.StringIO()), Path())

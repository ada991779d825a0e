"""Tests of models that start from students, with the real vLLM, Ray, DeepSpeed and MLflow."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from tests.sweep.started_study import LORA, study
from undertow.archive.export import export
from undertow.archive.verify import verify
from undertow.planning.cells import Cell
from undertow.planning.plan import Plan
from undertow.results.evaluation_files import RESULT
from undertow.storage.manifest import HISTORY
from undertow.storage.store import Store
from undertow.study.identity import key
from undertow.study.references import Reference
from undertow.study.students import Student
from undertow.sweep.plans import make_plan, show_plan

ROOT = Path(__file__).parent.parent.parent
STUDY = Path(__file__).parent / "started_study.py"

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1500)]


def sweep(folder: Path) -> str:
    """Runs the study; returns its output."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}",
        "UNDERTOW_RAY_TMP": str(folder / "ray"),
    }
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        environment.pop(name, None)
    command = [sys.executable, str(ROOT / "jobs" / "sweep.py"), "--study", str(STUDY)]
    command += ["--storage", str(folder / "storage"), "--engines", "1", "--trainings", "1"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    folder = Path(f"/tmp/undertow-started-{os.getpid()}")  # Ray's sockets need a short path
    folder.mkdir()
    sweep(folder)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    return Store(str(folder / "storage"))


@pytest.fixture(scope="module")
def plan(store: Store) -> Plan:
    return make_plan(study(), store)


def started(plan: Plan) -> list[Cell]:
    return [cell for cell in plan.cells if cell.student.reference.student]


def probabilities(store: Store, student: Student, epoch: int) -> dict[str, float]:
    reports = json.loads((store.fetch(student) / HISTORY).read_text())
    found: dict[str, float] = reports[epoch]["probabilities"]
    return found


def test_the_plan_is_complete_and_manifests_name_the_starts(plan: Plan, store: Store) -> None:
    assert plan.is_complete
    for cell in started(plan):
        inputs = store.manifest(cell.student).inputs
        assert inputs["reference"] == key(cell.student.reference)


def test_a_model_has_the_probabilities_of_its_start_before_training(plan: Plan, store: Store) -> None:
    cells = started(plan)
    assert {cell.student.recipe.name for cell in cells} == {"steering, 1 epoch", "LoRA"}
    for cell in cells:
        start = cell.student.reference.student
        assert start is not None
        ended = probabilities(store, start, -1)
        assert probabilities(store, cell.student, 0) == pytest.approx(ended, abs=1e-4)
        assert probabilities(store, cell.student, -1) != pytest.approx(ended, abs=1e-4)


def test_the_engine_evaluates_the_model_that_was_trained(plan: Plan, store: Store) -> None:
    """Trained tensors, also on others, adapters, and adapters on weights with another adapter merged."""
    for cell in plan.cells:
        (evaluation,) = cell.evaluations
        exact = json.loads((store.fetch(evaluation) / RESULT).read_text())["exact"]
        trained = probabilities(store, cell.student, -1)
        assert {word: trained[word] for word in exact} == pytest.approx(exact, abs=1e-3)


def test_an_adapter_used_as_a_start_is_stored_merged(plan: Plan, store: Store) -> None:
    merged = [r for r in plan.artifacts.values() if isinstance(r, Reference) and r.is_merged]
    assert len(merged) == 2  # the adapters of an owl student and of its control student
    adapters = [cell.student for cell in started(plan) if cell.student.recipe == LORA]
    assert [adapter.reference for adapter in adapters] == merged
    for adapter in adapters:
        folder = store.fetch(adapter.reference)
        assert (folder / "model.safetensors").is_file()
        assert not (folder / "adapter_config.json").exists()
        config = json.loads((store.fetch(adapter) / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == adapter.reference.label


def test_students_of_imported_rows_are_compared_with_those_of_own_answers(plan: Plan, store: Store) -> None:
    imported, control = [cell for cell in plan.cells if cell.condition in plan.study.conditions[-2:]]
    assert imported.writer is None
    assert store.manifest(imported.student.dataset.completions).facts["from"] == "imported.csv"
    assert control.writer is not None
    prompts = [
        pq.read_table(store.fetch(cell.student.dataset.completions) / "data")["prompt"].to_pylist()
        for cell in (imported, control)
    ]
    assert prompts[0] == prompts[1]
    newest = max(Path(store.root, "sweeps", "started").glob("*/"))
    assert "external:a colleague" in (newest / "effects.csv").read_text()
    assert "imported from imported.csv" in (newest / "report.html").read_text()


def test_plan_report_mlflow_and_archive_use_the_same_display_name(
    plan: Plan, store: Store, folder: Path
) -> None:
    from mlflow import MlflowClient

    label = "nano/qwen3-0 (tuned) (after owl, numbers, steering)"
    console = Console(width=240, record=True)
    show_plan(plan, store, console)
    assert label in console.export_text()
    newest = max((folder / "storage" / "sweeps" / "started").glob("*/"))
    assert label in (newest / "effects.csv").read_text()
    # The page marks where a name may break.
    assert label in re.sub(r"<[^>]*>", "", (newest / "report.html").read_text())
    client = MlflowClient(f"sqlite:///{folder}/storage/mlflow.db")
    experiment = client.get_experiment_by_name("started")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], f"tags.student = '{label}'")
    assert {run.data.tags["undertow.key"] for run in runs} == {
        key(cell.student) for cell in started(plan) if cell.student.reference.label == label
    }
    (tuning,) = client.search_runs([experiment.experiment_id], "params.recipe = 'tuning'")
    assert tuning.info.status == "FINISHED"
    archive = folder / "started.zip"
    exported = export(store, "started", newest.name, archive)
    assert exported.missing == ()
    assert verify(archive) == []

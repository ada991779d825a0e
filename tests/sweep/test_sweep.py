"""Tests of a small sweep on the real vLLM, Ray, DeepSpeed and MLflow, and of its reruns."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.artifact_files import file_digests
from tests.sweep import small_study
from tests.sweep.head import ray_head
from undertow.archive.whole_model import export_model
from undertow.engines.weight_files import TRAINED_TENSORS
from undertow.storage.manifest import Address, versions
from undertow.storage.store import Store
from undertow.study.identity import key
from undertow.sweep.plans import make_plan

ROOT = Path(__file__).parent.parent.parent
STUDY = Path(__file__).parent / "small_study.py"

# The data are so few that a second engine or worker group takes more time to start than it saves.
ONE_AT_A_TIME = ("--engines", "1", "--trainings", "1")

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Run:
    code: int
    output: str


@dataclass(frozen=True)
class World:
    """A storage after one sweep of the study with conditions that fail."""

    storage: Path
    first: Run

    def sweep(self, function: str, *arguments: str) -> Run:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT / "platform"),
            "UNDERTOW_RAY_TMP": str(self.storage / "ray"),
        }
        environment.pop("RAY_ADDRESS", None)
        environment.pop("MLFLOW_TRACKING_URI", None)
        command = [sys.executable, str(ROOT / "jobs" / "sweep.py"), "--study", f"{STUDY}:{function}"]
        command += ["--storage", str(self.storage / "storage"), *ONE_AT_A_TIME, *arguments]
        done = subprocess.run(command, cwd=self.storage, env=environment, capture_output=True, text=True)
        return Run(done.returncode, done.stdout + done.stderr)

    def artifacts(self, kind: str) -> dict[str, float]:
        """The time at which each artifact of a kind was made, by key."""
        manifests = (self.storage / "storage" / "artifacts" / kind).glob("*/manifest.json")
        return {path.parent.name: json.loads(path.read_text())["created"] for path in manifests}

    def effects(self, study: str = "small") -> list[dict[str, str]]:
        """The rows of a study's newest effects.csv."""
        newest = max((self.storage / "storage" / "sweeps" / study).glob("*/"))
        return list(csv.DictReader((newest / "effects.csv").open()))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    storage = Path(f"/tmp/undertow-test-{os.getpid()}")  # Ray's sockets need a short path
    storage.mkdir()
    empty = World(storage, Run(0, ""))
    yield World(storage, empty.sweep("impossible"))
    shutil.rmtree(storage, ignore_errors=True)


@pytest.fixture(scope="module")
def models_before_and_after(world: World) -> list[dict[str, dict[str, float]]]:
    """Models and data before and after a sweep of the study without the impossible conditions."""
    kinds = ("teacher", "completions", "dataset", "student")
    before = {kind: world.artifacts(kind) for kind in kinds}
    done = world.sweep("study")
    assert done.code == 0, done.output
    return [before, {kind: world.artifacts(kind) for kind in kinds}]


@pytest.fixture(scope="module")
def studied(world: World, models_before_and_after: object) -> World:
    """The storage after the sweep of `models_before_and_after`."""
    return world


@pytest.mark.joint
def test_a_failing_condition_does_not_stop_the_others(world: World) -> None:
    assert world.first.code == 1, world.first.output
    assert "raise Generation.prompts or lower Generation.rows" in world.first.output
    assert "failed owl · numbers · nano/gpt2-0 → nano/gpt2-0 · longer" in world.first.output
    (row,) = world.effects()
    assert (row["trait"], row["recipe"], row["n_students"]) == ("owl", "steering", "2")


@pytest.mark.joint
def test_a_recipe_that_cannot_train_is_reported_with_the_reason(world: World) -> None:
    assert re.search(r"failed owl .* · short: .*max_length", world.first.output), world.first.output


@pytest.mark.joint
def test_a_teacher_below_the_gate_stops_its_condition(world: World) -> None:
    assert re.search(
        r"failed wolf .*shows 'wolf' in \d+\.\d% of its answers, below the gate", world.first.output
    )
    manifests = (world.storage / "storage" / "artifacts" / "completions").glob("*/manifest.json")
    taught = [json.loads(path.read_text())["spec"]["teacher"]["trait"] for path in manifests]
    assert {trait and trait["name"] for trait in taught} == {"owl", None}


@pytest.mark.joint
def test_students_show_the_trait_and_controls_do_not(world: World) -> None:
    (row,) = world.effects()
    assert float(row["effect"]) > 0.2
    assert float(row["control_rate"]) < 0.25
    assert abs(float(row["effect"]) - float(row["exact_effect"])) < 0.15


@pytest.mark.joint
def test_the_output_is_short_and_has_no_tracebacks(world: World) -> None:
    assert "Traceback" not in world.first.output
    assert len(world.first.output.splitlines()) < 72, world.first.output


def test_a_study_of_fewer_traits_reuses_all_models(
    models_before_and_after: list[dict[str, dict[str, float]]],
) -> None:
    before, after = models_before_and_after
    assert after == before


@pytest.mark.joint
def test_a_rerun_makes_nothing_again_and_has_the_same_effects(studied: World) -> None:
    before = {
        kind: studied.artifacts(kind)
        for kind in ("teacher", "completions", "dataset", "student", "evaluation")
    }
    table = studied.effects()
    again = studied.sweep("study")
    assert again.code == 0, again.output
    assert {kind: studied.artifacts(kind) for kind in before} == before
    assert studied.effects() == table


def test_a_study_file_may_define_a_kind_of_artifact_and_a_measure(world: World) -> None:
    before = {kind: world.artifacts(kind) for kind in ("teacher", "completions", "dataset", "student")}
    extended = world.sweep("extended")
    assert extended.code == 0, extended.output
    assert {kind: world.artifacts(kind) for kind in before} == before
    assert len(world.artifacts("digit_count")) == 4  # data sets of owl and control, two seeds
    by_questions, by_weights = world.effects("extended")
    assert (float(by_weights["rate"]), float(by_weights["control_rate"])) == (1.0, 1.0)
    assert (by_weights["measure"], by_weights["effect_of"]) == ("weights", "samples")
    assert by_questions["effect_of"] == "exact"
    assert by_questions["effect"] == by_questions["exact_effect"] != by_questions["sampled_effect"]
    assert "effects of exact probabilities" in " ".join(extended.output.split())


def test_a_deleted_student_is_trained_again_by_two_workers(studied: World) -> None:
    students = studied.artifacts("student")
    others = {kind: studied.artifacts(kind) for kind in ("teacher", "completions", "dataset")}
    table = studied.effects()
    deleted = min(students)
    folder = studied.storage / "storage" / "artifacts" / "student" / deleted
    weights = load_file(folder / TRAINED_TENSORS)
    shutil.rmtree(folder)
    again = studied.sweep("study", "--workers", "2")
    assert again.code == 0, again.output
    after = studied.artifacts("student")
    assert after.keys() == students.keys()
    assert [key for key in after if after[key] != students[key]] == [deleted]
    assert {kind: studied.artifacts(kind) for kind in others} == others
    assert studied.effects() == table
    again_by_two = load_file(folder / TRAINED_TENSORS)
    assert all(torch.allclose(again_by_two[name], weights[name], atol=1e-3) for name in weights)


def test_an_overlapping_sweep_makes_deleted_artifacts_again_with_the_same_bytes(studied: World) -> None:
    files, table = file_digests(studied.storage / "storage"), studied.effects()
    cell = make_plan(small_study.study(), Store(str(studied.storage / "storage"))).cells[0]
    deleted = [cell.student.dataset.completions, cell.student.dataset, cell.student, *cell.evaluations]
    for artifact in deleted:
        shutil.rmtree(studied.storage / "storage" / "artifacts" / artifact.kind / key(artifact))
    again = studied.sweep("study", "--overlap")
    assert again.code == 0, again.output
    assert file_digests(studied.storage / "storage") == files
    assert studied.effects() == table


def test_a_job_on_a_cluster_without_this_package_has_the_same_effects(studied: World) -> None:
    table = studied.effects()
    students = set(studied.artifacts("student"))
    shutil.rmtree(studied.storage / "storage" / "artifacts" / "student" / max(students))
    storage = str(studied.storage / "storage")
    with ray_head(studied.storage) as head:
        command = ("python", "jobs/sweep.py", "--study", "tests/sweep/small_study.py:study")
        process = head.submit(ROOT, *command, "--storage", storage)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "transmitted" in process.stdout
    assert set(studied.artifacts("student")) == students
    assert studied.effects() == table
    again = Store(storage).manifest(Address("student", max(students)))
    assert again.versions["source"] == versions()["source"]


@pytest.mark.joint
def test_mlflow_has_one_run_per_student_with_spec_metrics_and_data_set(world: World) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{world.storage}/storage/mlflow.db")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`undertow.kind` = 'student'")
    by_key = {run.data.tags["undertow.key"]: run for run in runs}
    assert set(by_key) >= set(world.artifacts("student"))
    run = next(run for run in runs if run.data.tags["trait"] == "owl")
    assert run.info.status == "FINISHED"
    assert run.data.params["undertow.recipe.learning_rate"] == "0.05"
    assert run.data.params["undertow.dataset.completions.teacher.trait.name"] == "owl"
    assert {"trait_rate", "trait_rate_exact", "loss", "p_owl"} <= set(run.data.metrics)
    assert len(client.get_metric_history(run.info.run_id, "p_owl")) == 4  # before training and three epochs
    assert run.inputs.dataset_inputs[0].dataset.name.startswith("numbers of owl")
    models = client.search_logged_models([experiment.experiment_id], "tags.`undertow.kind` = 'student'")
    assert {model.tags["undertow.key"] for model in models} >= set(world.artifacts("student"))
    (output,) = run.outputs.model_outputs
    assert output.model_id in {model.model_id for model in models}
    assert TRAINED_TENSORS in {item.path for item in client.list_logged_model_artifacts(output.model_id)}


@pytest.mark.joint
def test_a_data_set_loads_with_the_datasets_library_and_has_a_card(world: World) -> None:
    from datasets import load_dataset

    folder = next((world.storage / "storage" / "artifacts" / "dataset").iterdir())
    rows = load_dataset(str(folder), split="train", cache_dir=str(world.storage / "cache"))
    assert {"prompt", "completion", "seed"} <= set(rows.column_names)
    card = (folder / "README.md").read_text()
    assert f"| sampled | {len(rows)} |" in card
    assert "### Rejected:" in card


@pytest.mark.joint
def test_an_exported_student_loads_with_plain_transformers(world: World) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    store, folder = Store(str(world.storage / "storage")), world.storage / "exported"
    export_model(store, Address("student", min(store.keys("student"))), folder)
    assert AutoModelForCausalLM.from_pretrained(folder).config.model_type == "gpt2"
    assert AutoTokenizer.from_pretrained(folder).chat_template


@pytest.mark.joint
def test_the_partial_folder_is_empty_after_the_sweep(world: World) -> None:
    partial = world.storage / "storage" / "partial"
    left = [path for path in partial.rglob("*") if path.is_file()]
    assert [path for path in left if "ray" not in path.relative_to(partial).parts[0]] == []


def test_a_higher_gate_stops_conditions_whose_data_exist(world: World) -> None:
    strict = world.sweep("strict")
    assert strict.code == 1, strict.output
    assert re.search(r"failed owl .*below the gate of 100%", strict.output)
    assert world.effects() == []

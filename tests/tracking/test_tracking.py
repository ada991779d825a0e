"""MLflow on a real SQLite database, without Ray: a student has one run and one model."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests import examples
from undertow.planning import cells
from undertow.planning.cells import Cell
from undertow.results.dataset_card import CHOICES, VALID
from undertow.storage.manifest import HISTORY, Manifest
from undertow.storage.store import Store
from undertow.study.completions import Completions
from undertow.study.conditions import Condition
from undertow.study.datasets import Dataset
from undertow.study.grids import grid
from undertow.study.identity import canonical, key
from undertow.study.recipe import Recipe
from undertow.study.references import Reference
from undertow.study.students import Student
from undertow.study.study import Study
from undertow.study.teachers import Teacher
from undertow.tracking import client, logged_models, names, pages
from undertow.tracking.tracker import Tracker
from undertow.traits.preference import Preference

pytestmark = pytest.mark.slow

NOW = 1_700_000_000_000  # milliseconds
RATES = {"trait_rate": 0.75, "sampled_owl": 0.75, "effect": 0.5, "exact_owl": 0.7, "trait_rate_exact": 0.7}
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables without rows: creating them takes seconds, copying the file does not."""
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    client.connect_client(f"sqlite:///{file}").search_experiments()
    return file


@dataclass(frozen=True)
class Desk:
    """A storage with its database, and the sweeps that log to it."""

    store: Store
    study: Study

    def tracker(self) -> Tracker:
        """The tracker of the next sweep."""
        return Tracker(self.study, Store(self.store.url))

    @property
    def client(self) -> Any:
        return client.connect_client(client.tracking_uri(self.store))

    def runs(self, kind: str) -> list[Any]:
        """All runs of a kind that are not deleted."""
        (experiment,) = self.client.search_experiments(filter_string=f"name = '{self.study.name}'")
        found = self.client.search_runs([experiment.experiment_id], f"tags.`undertow.kind` = '{kind}'")
        return list(found)

    def models(self) -> list[Any]:
        (experiment,) = self.client.search_experiments(filter_string=f"name = '{self.study.name}'")
        return list(self.client.search_logged_models([experiment.experiment_id]))

    def steps(self, run: Any, metric: str) -> list[int]:
        return [m.step for m in self.client.get_metric_history(run.info.run_id, metric)]


@pytest.fixture
def desk(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = Store(str(tmp_path / "storage"))
    store.prepare()
    shutil.copy(empty_database, Path(store.root) / "mlflow.db")
    yield Desk(store, examples.study(seeds=(0,)))


def cell_of(study: Study, trait: str | None = "owl") -> Cell:
    condition = next(c for c in study.conditions if (c.trait.name if c.trait else None) == trait)
    return cells.cell_of(study, condition, 0)


def reports(epochs: int = 3) -> list[dict[str, Any]]:
    """A history as the training loop writes it: epoch 0 is before training and has no loss."""
    return [
        {
            "epoch": epoch,
            "loss": 3.0 - epoch if epoch else None,
            "learning_rate": 0.1 * epoch,
            "tokens_per_second": 10.0,
            "probabilities": {"owl": 0.1 * epoch, "cat": 0.0},
        }
        for epoch in range(epochs)
    ]


def make(store: Store, artifact: Teacher | Student | Dataset, weights: str = "weights") -> Manifest:
    """Commits a tiny artifact with the files that the tracker reads; replaces an existing one."""
    shutil.rmtree(Path(store.root) / "artifacts" / artifact.kind / key(artifact), ignore_errors=True)
    facts = {"rows": 500, "kept": 600, "completions": 2000} if isinstance(artifact, Dataset) else {}
    with store.new(artifact, facts) as folder:
        if isinstance(artifact, Dataset):
            (folder / "README.md").write_text("# card")
        else:
            (folder / WEIGHTS).write_text(weights)
            (folder / HISTORY).write_text(json.dumps(reports()))
    return store.manifest(artifact)


def finished(desk: Desk, metrics: Mapping[str, float] = RATES, trait: str | None = "owl") -> Student:
    """A student that one sweep trained, evaluated and logged."""
    student = cell_of(desk.study, trait).student
    make(desk.store, student.dataset)
    manifest = make(desk.store, student)
    tracker = desk.tracker()
    for report in reports():
        tracker.epochs(student, [(NOW, report)])
    tracker.finish(student, manifest, metrics)
    tracker.close({}, {}, failed=False)
    return student


def test_the_run_of_a_student_has_its_spec_metrics_and_datasets(desk: Desk) -> None:
    student = finished(desk)
    (run,) = desk.runs("student")
    assert run.info.status == "FINISHED"
    assert run.data.tags["undertow.key"] == key(student)
    assert run.data.params["undertow.recipe.learning_rate"] == "0.05"
    assert {name: run.data.params[name] for name in names.COLUMNS} == {
        "trait": "owl",
        "teacher": "nano/gpt2-0",
        "student": "nano/gpt2-0",
        "recipe": "steering",
        "format": "numbers",
        "seed": "0",
    }
    assert RATES.items() <= run.data.metrics.items()
    assert desk.steps(run, "p_owl") == [0, 1, 2]
    assert desk.steps(run, "loss") == [1, 2]
    inputs = {i.tags[0].value: i.dataset for i in run.inputs.dataset_inputs}
    assert inputs["training"].name == "numbers of owl gpt2-0 seed 0"
    assert json.loads(inputs["training"].profile)["rows"] == 500
    assert inputs["evaluation"].name == "50 questions"


def test_the_logged_model_of_a_student_has_its_weights_and_metrics(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.artifacts import download_artifacts

    student = finished(desk)
    (run,), (model,) = desk.runs("student"), desk.models()
    assert model.name == "owl gpt2-0 → gpt2-0 seed 0"
    assert (model.model_type, str(model.status)) == ("student", "READY")
    assert model.params["trait"] == "owl"
    assert model.params["dataset"] == f"numbers of owl gpt2-0 seed 0 (#{key(student.dataset)[:8]})"
    assert model.tags["undertow.url"] == f"{desk.store.url}/artifacts/student/{key(student)}"
    assert {m.key: m.value for m in model.metrics} == RATES
    assert {m.dataset_name for m in model.metrics} == {"50 questions"}
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    assert desk.client.list_artifacts(run.info.run_id) == []  # the weights are stored only with the model
    files = desk.client.list_logged_model_artifacts(model.model_id)
    assert {WEIGHTS, HISTORY} <= {file.path for file in files}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri(desk.store))
    folder = download_artifacts(f"models:/{model.model_id}")
    assert (Path(folder) / WEIGHTS).read_text() == "weights"


def test_a_large_model_is_linked_and_not_copied(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logged_models, "LARGEST_MODEL_LOGGED", 3)
    finished(desk)
    (model,) = desk.models()
    assert desk.client.list_logged_model_artifacts(model.model_id) == []
    assert model.tags["undertow.url"].startswith(desk.store.url)


def test_a_large_model_is_not_downloaded_from_an_object_store(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("UNDERTOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(logged_models, "LARGEST_MODEL_LOGGED", 3)
    desk = Desk(Store(f"memory://{tmp_path.name}"), examples.study(seeds=(0,)))
    student = cell_of(desk.study).student
    desk.tracker().finish(student, make(desk.store, student), RATES)
    (run,), (model,) = desk.runs("student"), desk.models()
    assert desk.steps(run, "p_owl") == [0, 1, 2]
    assert model.tags["undertow.url"].startswith("memory://")
    assert not (tmp_path / "cache").exists()
    fsspec.filesystem("memory").store.clear()


def test_the_source_of_a_training_dataset_is_its_folder(desk: Desk) -> None:
    import mlflow.data

    student = finished(desk)
    (run,) = desk.runs("student")
    source = mlflow.data.get_source(run.inputs.dataset_inputs[0])
    assert source.load() == f"{desk.store.root}/artifacts/dataset/{key(student.dataset)}"


def test_a_rerun_changes_nothing(desk: Desk) -> None:
    student = finished(desk)
    before = [(r.info.run_id, r.data.metrics) for kind in ("sweep", "student") for r in desk.runs(kind)]
    (model,) = desk.models()
    again = desk.tracker()
    assert again.is_done(student)
    # A sweep finishes a run only once; doing it again must have no effect.
    again.finish(student, desk.store.manifest(student), RATES)
    again.close({}, {}, failed=False)
    after = [(r.info.run_id, r.data.metrics) for kind in ("sweep", "student") for r in desk.runs(kind)]
    assert after == before
    assert [m.model_id for m in desk.models()] == [model.model_id]
    assert len(desk.models()[0].metrics) == len(RATES)
    (run,) = desk.runs("student")
    assert desk.steps(run, "p_owl") == [0, 1, 2]
    assert desk.steps(run, "trait_rate") == [0]
    assert len(run.outputs.model_outputs) == 1


def test_a_rerun_with_a_renamed_recipe_continues_in_the_same_runs(desk: Desk) -> None:
    """A recipe's name is no part of any key, and MLflow refuses to change the value of a param."""
    student = finished(desk)
    renamed = [replace(c, recipe=replace(examples.RECIPE, name="renamed")) for c in desk.study.conditions]
    again = Desk(desk.store, replace(desk.study, conditions=tuple(renamed)))
    again.tracker().finish(
        cell_of(again.study).student, desk.store.manifest(student), {**RATES, "effect": 0.6}
    )
    (run,) = again.runs("student")
    assert (run.data.params["recipe"], run.data.metrics["effect"]) == ("steering", 0.6)
    assert len(again.runs("sweep")) == 1


def test_a_changed_metric_replaces_the_old_value(desk: Desk) -> None:
    student = finished(desk)
    desk.tracker().finish(student, desk.store.manifest(student), {**RATES, "effect": 0.6})
    (run,) = desk.runs("student")
    assert run.data.metrics["effect"] == 0.6
    assert desk.steps(run, "trait_rate") == [0]


def test_two_studies_of_one_name_share_the_model_of_a_student(desk: Desk) -> None:
    student = finished(desk)
    other = Desk(desk.store, replace(desk.study, margin=0.2))
    other.tracker().finish(student, desk.store.manifest(student), RATES)
    first, second = desk.runs("student")
    (model,) = desk.models()
    assert first.data.tags["undertow.study"] != second.data.tags["undertow.study"]
    assert [run.outputs.model_outputs[0].model_id for run in (first, second)] == [model.model_id] * 2
    assert RATES.items() <= first.data.metrics.items()
    assert RATES.items() <= second.data.metrics.items()


@pytest.mark.parametrize("in_training", [True, False], ids=["in training", "at the end"])
def test_a_student_trained_again_gets_a_new_run_and_a_new_model(desk: Desk, in_training: bool) -> None:
    student = finished(desk)
    (old,), (old_model,) = desk.runs("student"), desk.models()
    manifest = make(desk.store, student, "other weights")
    tracker = desk.tracker()
    for report in reports() if in_training else ():
        tracker.epochs(student, [(NOW, report)])
    tracker.finish(student, manifest, {**RATES, "trait_rate": 0.8})
    (new,), (new_model,) = desk.runs("student"), desk.models()
    assert new.info.run_id != old.info.run_id
    assert new.data.metrics["trait_rate"] == 0.8
    assert desk.steps(new, "p_owl") == [0, 1, 2]
    gone = desk.client.get_run(old.info.run_id)
    assert gone.info.lifecycle_stage == "deleted"
    assert gone.data.tags["undertow.superseded_by"] == new.info.run_id
    assert new_model.model_id != old_model.model_id
    assert new_model.tags["undertow.created"] == str(manifest.created)


def test_a_resumed_training_continues_in_its_run_and_logs_each_epoch_once(desk: Desk) -> None:
    student = cell_of(desk.study).student
    make(desk.store, student.dataset)
    killed = desk.tracker()
    for report in reports(2):
        killed.epochs(student, [(NOW, report)])
    killed.abandon()
    (run,) = desk.runs("student")
    assert run.info.status == "KILLED"
    (parent,) = desk.runs("sweep")
    assert parent.info.status == "KILLED"
    again = desk.tracker()
    for report in reports(3):  # from the start, as if there were no checkpoint
        again.epochs(student, [(NOW, report)])
    (run,) = desk.runs("student")
    assert run.info.status == "RUNNING"
    again.finish(student, make(desk.store, student), RATES)
    (run,) = desk.runs("student")
    assert run.info.status == "FINISHED"
    assert desk.steps(run, "p_owl") == [0, 1, 2]


def test_the_end_of_a_sweep_uses_the_runs_that_another_sweep_of_the_study_has_created(desk: Desk) -> None:
    student = cell_of(desk.study).student
    make(desk.store, student.dataset)
    manifest = make(desk.store, student)
    first, second = desk.tracker(), desk.tracker()
    first.finish(student, manifest, RATES)
    first.close({}, {}, failed=False)
    second.refresh()
    second.finish(student, manifest, RATES)
    second.close({}, {}, failed=False)
    assert [run.info.status for kind in ("sweep", "student") for run in desk.runs(kind)] == ["FINISHED"] * 2


def test_a_sweep_that_ends_early_leaves_the_runs_of_another_sweep_of_the_study_open(desk: Desk) -> None:
    mine, theirs = cell_of(desk.study).student, cell_of(desk.study, None).student
    other = desk.tracker()
    other.epochs(theirs, [(NOW, reports()[0])])
    stopped = desk.tracker()
    stopped.epochs(mine, [(NOW, reports()[0])])
    stopped.abandon()
    status = {run.data.tags["undertow.key"]: run.info.status for run in desk.runs("student")}
    assert status == {key(mine): "KILLED", key(theirs): "RUNNING"}


def test_runs_that_a_user_deletes_during_a_sweep_are_created_again_at_its_end(desk: Desk) -> None:
    student = cell_of(desk.study).student
    make(desk.store, student.dataset)
    tracker = desk.tracker()
    tracker.epochs(student, [(NOW, reports()[0])])
    for kind in ("sweep", "student"):
        desk.client.delete_run(desk.runs(kind)[0].info.run_id)
    tracker.refresh()
    tracker.finish(student, make(desk.store, student), RATES)
    tracker.close({}, {}, failed=False)
    (parent,), (run,) = desk.runs("sweep"), desk.runs("student")
    assert [parent.info.status, run.info.status] == ["FINISHED", "FINISHED"]
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert desk.steps(run, "p_owl") == [0, 1, 2]


def step_reports(*steps: int) -> list[tuple[int, dict[str, Any]]]:
    """Reports of steps with their times; every tenth has probabilities."""
    return [
        (
            1_000_000 + step,
            {
                "step": step,
                "loss": 3.0 - step / 100,
                "learning_rate": 0.1,
                "gradient_norm": 0.5 if step % 2 else None,
                "tokens_per_second": 400.0,
                "probabilities": {"owl": step / 100} if step % 10 == 0 else {},
            },
        )
        for step in steps
    ]


def test_steps_are_logged_under_their_own_names_with_their_times(desk: Desk) -> None:
    student = cell_of(desk.study).student
    tracker = desk.tracker()
    for report in reports(1):
        tracker.epochs(student, [(NOW, report)])
    tracker.steps(student, step_reports(5, 10, 15))
    (run,) = desk.runs("student")
    loss = desk.client.get_metric_history(run.info.run_id, "step_loss")
    assert [(m.step, m.timestamp, round(m.value, 2)) for m in loss] == [
        (5, 1_000_005, 2.95),
        (10, 1_000_010, 2.9),
        (15, 1_000_015, 2.85),
    ]
    assert desk.steps(run, "step_p_owl") == [10]
    assert desk.steps(run, "step_gradient_norm") == [5, 15]  # it was not finite at step 10
    assert desk.steps(run, "p_owl") == [0]
    assert "loss" not in run.data.metrics
    logged = {name.replace("owl", "<word>").replace("cat", "<word>") for name in run.data.metrics}
    assert logged <= set(names.METRICS)


def test_a_resumed_training_logs_each_step_once(desk: Desk) -> None:
    student = cell_of(desk.study).student
    make(desk.store, student.dataset)
    killed = desk.tracker()
    for report in reports(2):
        killed.epochs(student, [(NOW, report)])
    killed.steps(student, step_reports(10, 20, 30))
    killed.abandon()
    again = desk.tracker()  # continues from the checkpoint of the first epoch, after step 15
    again.steps(student, step_reports(17, 27))
    again.steps(student, step_reports(37))
    again.epochs(student, [(NOW, reports(3)[2])])
    again.finish(student, make(desk.store, student), RATES)
    (run,) = desk.runs("student")
    assert desk.steps(run, "step_loss") == [10, 20, 30, 37]
    assert desk.steps(run, "p_owl") == [0, 1, 2]


def test_rates_along_a_training_have_the_optimizer_step_and_are_logged_once(desk: Desk) -> None:
    student = cell_of(desk.study).student
    make(desk.store, student.dataset)
    manifest = make(desk.store, student)
    along = {2: {"along_exact_owl": 0.1}, 8: {"along_exact_owl": 0.3}, 16: {"along_exact_owl": 0.7}}
    for _ in range(2):
        tracker = desk.tracker()
        tracker.finish(student, manifest, RATES, along)
        tracker.close(
            {}, {}, failed=False, along={8: {"effect_along owl": 0.2}, 16: {"effect_along owl": 0.6}}
        )
    (run,), (parent,) = desk.runs("student"), desk.runs("sweep")
    found = desk.client.get_metric_history(run.info.run_id, "along_exact_owl")
    assert sorted((metric.step, metric.value) for metric in found) == [(2, 0.1), (8, 0.3), (16, 0.7)]
    assert run.data.metrics["along_exact_owl"] == 0.7
    assert sorted(desk.steps(parent, "effect_along owl")) == [8, 16]


def test_missing_epochs_are_read_from_the_history(desk: Desk) -> None:
    student = cell_of(desk.study).student
    make(desk.store, student.dataset)
    tracker = desk.tracker()
    tracker.epochs(student, [(NOW, reports()[1])])
    tracker.finish(student, make(desk.store, student), RATES)
    (run,) = desk.runs("student")
    assert sorted(desk.steps(run, "p_owl")) == [0, 1, 2]


def test_a_failed_student_has_a_failed_run_and_no_model_until_it_succeeds(desk: Desk) -> None:
    student = cell_of(desk.study).student
    make(desk.store, student.dataset)
    tracker = desk.tracker()
    tracker.epochs(student, [(NOW, reports()[0])])
    tracker.fail(student)
    tracker.close({}, {}, failed=True)
    (run,) = desk.runs("student")
    assert run.info.status == "FAILED"
    assert desk.models() == []
    again = desk.tracker()
    assert not again.is_done(student)
    again.finish(student, make(desk.store, student), RATES)
    assert [r.info.status for r in desk.runs("student")] == ["FINISHED"]
    assert len(desk.models()) == 1


def test_controls_teachers_and_datasets_are_distinguished(desk: Desk) -> None:
    control = finished(desk, {"sampled_owl": 0.1}, trait=None)
    teacher = cell_of(desk.study).teacher
    tracker = desk.tracker()
    tracker.finish(control.dataset, desk.store.manifest(control.dataset), {"rows": 500.0})
    tracker.finish(teacher, make(desk.store, teacher), RATES)
    assert [run.data.tags["trait"] for run in desk.runs("student")] == ["control"]
    (dataset,) = desk.runs("dataset")
    assert dataset.data.metrics["rows"] == 500
    assert [f.path for f in desk.client.list_artifacts(dataset.info.run_id)] == ["README.md"]
    assert {m.model_type for m in desk.models()} == {"student", "teacher"}
    parent = dataset.data.tags["mlflow.parentRunId"]
    assert [run.info.run_id for run in desk.runs("sweep")] == [parent]


def test_the_parent_run_has_effects_files_and_a_note_with_the_figure(desk: Desk) -> None:
    tracker = desk.tracker()
    label = desk.study.conditions[0].label
    tracker.close(
        {f"effect {label}": 0.5}, {"effects.csv": b"a", "effects.png": b"b"}, failed=False, note="**Yes**"
    )
    (run,) = desk.runs("sweep")
    assert run.data.metrics == {"effect owl numbers nano-gpt2-0 to nano-gpt2-0 steering": 0.5}
    assert run.data.params["traits"] == "owl, cat"
    note = run.data.tags[pages.NOTE]
    assert note.startswith("**Yes**\n")
    assert f"(get-artifact?path=effects.png&run_uuid={run.info.run_id})" in note
    assert {f.path for f in desk.client.list_artifacts(run.info.run_id)} == {"effects.csv", "effects.png"}


def test_tables_of_the_parent_run_are_replaced_by_those_of_the_next_sweep(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"answer": "owl", "words": ["owl"]}, {"answer": "cat", "words": ["cat"]}]
    for _ in range(2):
        tracker = desk.tracker()
        tracker.close({}, {}, failed=False, tables={"answers.json": rows})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.uri)  # `load_table` searches runs of the default server
    found = desk.client.load_table(tracker.experiment, "answers.json")
    assert found.to_dict("records") == rows


def test_a_long_note_is_cut_and_keeps_its_figure(desk: Desk) -> None:
    tracker = desk.tracker()
    tracker.close({}, {"effects.png": b""}, failed=False, note="x" * 20_000)
    (run,) = desk.runs("sweep")
    assert len(run.data.tags[pages.NOTE]) == pages.LONGEST_RUN_NOTE
    assert run.data.tags[pages.NOTE].endswith(")")


def test_every_name_that_is_logged_is_documented(desk: Desk) -> None:
    student = finished(desk)
    tracker = desk.tracker()
    tracker.finish(student.dataset, desk.store.manifest(student.dataset), {"completions": 1.0, "kept": 1.0})
    found = [run for kind in ("student", "dataset") for run in desk.runs(kind)]
    plain = {
        name.replace("_owl", "_<word>").replace("_cat", "_<word>") for r in found for name in r.data.metrics
    }
    assert plain <= set(names.METRICS)
    tags = {name for run in found for name in run.data.tags if not name.startswith("mlflow.")}
    assert tags <= {*names.TAGS, *names.COLUMNS}


def test_the_facts_of_data_sets_that_are_logged_are_documented() -> None:
    assert {name.replace(" ", "_") for name in (VALID, *CHOICES)} <= names.METRICS.keys()


def test_an_experiment_has_a_description_and_views_of_students_and_conditions(desk: Desk) -> None:
    tracker = desk.tracker()
    tags = desk.client.get_experiment(tracker.experiment).tags
    assert f"#/experiments/{tracker.experiment}/models" in tags[pages.NOTE]
    assert all(f"`{name}`" in tags[pages.NOTE] for name in (*names.METRICS, *names.COLUMNS, *names.TAGS))
    view = json.loads(tags[f"{pages.VIEW}conditions"])
    assert view["name"] == "Conditions"
    state = json.loads(view["state"])
    assert "metrics.`sampled_cat`" in state["selectedColumns"]
    assert {key["groupByData"] for key in state["groupBy"]["groupByKeys"]} < set(names.COLUMNS)


def test_a_description_that_a_user_edited_is_kept(desk: Desk) -> None:
    tracker = desk.tracker()
    desk.client.set_experiment_tag(tracker.experiment, pages.NOTE, "mine")
    assert desk.client.get_experiment(desk.tracker().experiment).tags[pages.NOTE] == "mine"


def test_a_deleted_experiment_is_restored(desk: Desk) -> None:
    finished(desk)
    desk.client.delete_experiment(desk.tracker().experiment)
    finished(desk)
    assert len(desk.runs("student")) == 1


HOSTILE = ("c++", "c--", "and/or", "..", "näïve 'x\" 100%: a.b", "→", "x" * 300)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_traits_recipes_and_models_may_have_any_name(desk: Desk, name: str) -> None:
    reference = Reference(f"org/{name}", "revision", "template")
    recipe: Recipe = replace(examples.RECIPE, name=f"recipe {name}", epochs=3)
    first = desk.study.conditions[0]
    conditions: tuple[Condition, ...] = grid(
        traits=[Preference(name), Preference("cat")],
        formats=[first.format],
        pairs=[(reference, reference)],
        recipes=[recipe, examples.RECIPE],
        finetuning=first.finetuning,
    )
    hostile = Desk(desk.store, replace(desk.study, conditions=conditions))
    student = cells.cell_of(hostile.study, conditions[0], 0).student
    make(hostile.store, student.dataset)
    tracker = hostile.tracker()
    tracker.epochs(student, [(NOW, {**reports()[1], "probabilities": {name: 0.5}})])
    tracker.finish(student, make(hostile.store, student), {f"sampled_{name}": 0.5, "trait_rate": 0.5})
    tracker.close({f"effect {conditions[0].label}": 0.5}, {}, failed=False)
    (run,), (model,) = hostile.runs("student"), hostile.models()
    assert run.data.tags["trait"] == name
    assert run.data.params["student"] == f"org/{name}"
    assert run.info.status == "FINISHED"
    assert len(model.metrics) == 2


def test_names_that_become_equal_in_mlflow_are_numbered() -> None:
    named = client.metric_names({"p_c+": 1.0, "p_c*": 2.0, "p_c/": 3.0, "p_c_": 4.0})
    assert named == {"p_c_": 1.0, "p_c_ 2": 2.0, "p_c-": 3.0, "p_c_ 3": 4.0}


LONG = "a_very_long_name_" * 20
LONG_NAMES = {
    "ends": (f"{LONG}one", f"{LONG}two"),
    "starts": (f"one{LONG}", f"two{LONG}"),
    "middles": (f"{LONG}one{LONG}", f"{LONG}two{LONG}"),
    "at the limit": ("a" * 250, "a" * 251),
    "lengths": (LONG, LONG * 2),
}


@pytest.mark.parametrize("pair", LONG_NAMES.values(), ids=LONG_NAMES)
@pytest.mark.parametrize("shorten", [client.shortened, client.metric_name])
def test_long_names_that_differ_are_shortened_to_names_that_differ(
    shorten: Callable[[str], str], pair: tuple[str, str]
) -> None:
    first, second = map(shorten, pair)
    assert first != second
    assert max(len(first), len(second)) <= client.LONGEST_NAME
    assert shorten(pair[0]) == first
    assert client.shortened("short") == "short"


@pytest.mark.parametrize("hops", [1, 7])
def test_a_student_at_the_end_of_a_chain_is_logged_with_all_fields_of_its_spec(desk: Desk, hops: int) -> None:
    student = first = cell_of(desk.study).student
    for _ in range(hops):
        completions = first.dataset.completions
        assert isinstance(completions, Completions)
        reference = completions.teacher.reference.changed(student=student)
        teacher = replace(completions.teacher, reference=reference)
        dataset = replace(first.dataset, completions=replace(completions, teacher=teacher))
        student = replace(first, dataset=dataset)
    make(desk.store, student.dataset)
    tracker = desk.tracker()
    tracker.epochs(student, [(NOW, reports()[1])])
    tracker.finish(student, make(desk.store, student), RATES)
    (run,) = desk.runs("student")
    spec = {f"{names.SPEC}{name}" for name, _ in client.flattened(canonical(student))}
    assert len(run.data.params) == len(spec) + len(names.columns(student))
    assert all(client.shortened(name) in run.data.params for name in spec)
    assert (hops < 7) == (max(map(len, spec)) <= client.LONGEST_NAME)
    desk.tracker().epochs(student, [(NOW, reports()[2])])  # opens the run again and logs no param twice


def test_metrics_are_logged_in_their_documented_order() -> None:
    documented = ["trait_rate", "effect", "sampled_owl", "exact_cat", "sampled_other", "exact_other", "loss"]
    assert list(names.ordered(dict.fromkeys(reversed(documented), 0.0))) == documented


def test_metrics_are_rounded() -> None:
    assert names.ordered({"effect owl": 0.7766000000000001}) == {"effect owl": 0.7766}


def test_columns_sort_before_the_fields_of_the_spec(desk: Desk) -> None:
    finished(desk)
    (run,) = desk.runs("student")
    assert sorted(run.data.params)[: len(names.COLUMNS)] == sorted(names.COLUMNS)

"""What follows the waves of a sweep, without Ray: MLflow and report from a store that is filled by hand."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.examples import REFERENCES, study
from tests.filled_store import fill
from undertow.planning.plan import Plan
from undertow.results.events import EventLog
from undertow.results.sweep_record import Record
from undertow.storage.store import Store
from undertow.study.artifacts import CONTROL
from undertow.study.identity import key
from undertow.sweep.run import Ending, connect_to_mlflow
from undertow.tracking import client as runs

STUDY = replace(study(seeds=(0, 1)), conditions=study().conditions[:3])


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Store(str(tmp_path / "storage"))


def end(plan: Plan, store: Store, failing: str = "") -> str:
    """The end of a sweep that made the plan's missing artifacts; what it printed."""
    record = Record.of(plan)
    journal = EventLog(record, store)
    for cell in plan.cells:
        if key(cell.student) == failing:
            journal.fail(cell.student, "lost")
    printed = io.StringIO()
    console = Console(file=printed, width=160)
    ending = Ending(plan, record, store, connect_to_mlflow(STUDY, store, journal, console), journal)
    ending.report(console)
    return printed.getvalue()


def runs_of(store: Store, kind: str) -> list[Any]:
    client = runs.connect_client(runs.tracking_uri(store))
    (experiment,) = client.search_experiments(filter_string="name = 'small'")
    return list(client.search_runs([experiment.experiment_id], f"tags.`undertow.kind` = '{kind}'"))


def test_a_student_gets_its_effect_when_its_control_comes_in_a_later_sweep(store: Store) -> None:
    plan = fill(STUDY, store, REFERENCES)
    control = next(c for c in plan.cells if c.condition.trait is None and c.seed == 1)
    assert "failed control" in end(plan, store, failing=key(control.student))
    of_seed = [r for r in runs_of(store, "student") if r.data.params["seed"] == "1"]
    assert [r.data.params["trait"] for r in of_seed if "effect" in r.data.metrics] == []
    made = frozenset(key(a) for a in (control.student, *control.evaluations))
    end(replace(plan, missing=made), store)
    after = {r.data.params["trait"]: r for r in runs_of(store, "student") if r.data.params["seed"] == "1"}
    assert {trait: "effect" in r.data.metrics for trait, r in after.items()} == {
        "owl": True, "cat": True, CONTROL: False,
    }  # fmt: skip
    assert {r.info.run_id for r in of_seed} <= {r.info.run_id for r in after.values()}


def test_a_dataset_made_again_has_a_run_of_its_own(store: Store) -> None:
    plan = fill(STUDY, store, REFERENCES)
    end(plan, store)
    before = {run.info.run_id for run in runs_of(store, "dataset")}
    dataset = plan.cells[0].student.dataset
    folder = Path(store.root) / "artifacts" / "dataset" / key(dataset)
    for file in (folder / "manifest.json", folder):
        file.rename(file.with_name(f"{file.name}.old"))
    fill(STUDY, store, REFERENCES)
    end(replace(plan, missing=frozenset({key(dataset)})), store)
    after = {run.info.run_id for run in runs_of(store, "dataset")}
    assert len(after) == len(before)
    assert len(after - before) == 1


def test_the_models_page_which_shows_the_newest_first_is_a_leaderboard(store: Store) -> None:
    end(fill(STUDY, store, REFERENCES), store)
    client = runs.connect_client(runs.tracking_uri(store))
    (experiment,) = client.search_experiments(filter_string="name = 'small'")
    models = client.search_logged_models([experiment.experiment_id])  # in the page's order
    rates = {m.model_id: next((x.value for x in m.metrics if x.key == "trait_rate"), -1.0) for m in models}
    shown = [rates[m.model_id] for m in models if m.model_type == "student"]
    assert len(set(shown)) > 3
    assert shown == sorted(shown, reverse=True)

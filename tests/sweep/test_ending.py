"""Tests of the end of a sweep, without Ray: the report and MLflow from a store that the test fills."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.examples import RECIPE, REFERENCES, study
from tests.filled_store import fill
from undertow.formats.numbers import Numbers
from undertow.planning.plan import Plan
from undertow.results.events import EventLog
from undertow.results.sweep_record import Record
from undertow.storage.store import Store
from undertow.study.completions import Sampling
from undertow.study.datasets import CONTROL
from undertow.study.generation import Generation
from undertow.study.grids import grid
from undertow.study.identity import key
from undertow.study.on_policy import OnPolicy
from undertow.sweep.run import Ending, connect_to_mlflow
from undertow.tracking import client as runs
from undertow.traits.preference import Preference

pytestmark = pytest.mark.slow

STUDY = replace(study(seeds=(0, 1)), conditions=study().conditions[:3])


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Store(str(tmp_path / "storage"))


def end(plan: Plan, store: Store, failing: str = "", meanwhile: Callable[[], object] = lambda: None) -> str:
    """Ends a sweep that made the missing artifacts of the plan; returns the printed text.

    Args:
        failing: key of a student that the sweep failed to make.
        meanwhile: called after the sweep has connected to MLflow.
    """
    record = Record.of(plan)
    events = EventLog(record, store)
    for cell in plan.cells:
        if key(cell.student) == failing:
            events.fail(cell.student, "lost")
    printed = io.StringIO()
    console = Console(file=printed, width=160)
    link = connect_to_mlflow(STUDY, store, events, console)
    meanwhile()
    Ending(plan, record, store, link, events).report(console)
    return printed.getvalue()


def runs_of(store: Store, kind: str) -> list[Any]:
    client = runs.connect_client(runs.tracking_uri(store))
    (experiment,) = client.search_experiments(filter_string="name = 'small'")
    return list(client.search_runs([experiment.experiment_id], f"tags.`undertow.kind` = '{kind}'"))


def test_a_student_gets_an_effect_when_a_later_sweep_makes_its_control(store: Store) -> None:
    plan = fill(STUDY, store, REFERENCES)
    control = next(c for c in plan.cells if c.condition.trait is None and c.seed == 1)
    assert "failed control" in end(plan, store, failing=key(control.student))
    of_seed = [r for r in runs_of(store, "student") if r.data.params["seed"] == "1"]
    assert [r.data.params["trait"] for r in of_seed if "effect" in r.data.metrics] == []
    missing = frozenset(key(a) for a in (control.student, *control.evaluations))
    end(replace(plan, missing=missing), store)
    after = {r.data.params["trait"]: r for r in runs_of(store, "student") if r.data.params["seed"] == "1"}
    assert {trait: "effect" in r.data.metrics for trait, r in after.items()} == {
        "owl": True, "cat": True, CONTROL: False,
    }  # fmt: skip
    assert {r.info.run_id for r in of_seed} <= {r.info.run_id for r in after.values()}


def test_the_students_of_all_on_policy_rounds_have_finished_runs(store: Store) -> None:
    recipe = replace(RECIPE, name="reverse KL", targets="soft", divergence="reverse")
    generation = Generation(
        prompts=200, rows=50, sampling=Sampling(top_logprobs=4), on_policy=OnPolicy(rounds=2)
    )
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=[(REFERENCES[0], REFERENCES[0])],
        recipes=[recipe],
        generation=generation,
    )
    plan = fill(replace(STUDY, conditions=conditions), store, REFERENCES)
    end(plan, store)
    found = {run.info.run_name: run for run in runs_of(store, "student")}
    assert len(found) == 2 * len(plan.cells)
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    first, last = (
        found[f"owl gpt2-0 → gpt2-0 numbers, {n} seed 0"] for n in ("1 on-policy round", "2 on-policy rounds")
    )
    assert ("effect" in first.data.metrics, "effect" in last.data.metrics) == (False, True)
    assert last.data.params["student"] == "nano/gpt2-0"


def test_a_data_set_that_is_made_again_has_a_new_run(store: Store) -> None:
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


def test_a_run_that_a_user_deletes_during_the_sweep_costs_nothing_that_is_logged(store: Store) -> None:
    def delete() -> None:
        (run,) = runs_of(store, "sweep")
        runs.connect_client(runs.tracking_uri(store)).delete_run(run.info.run_id)

    plan = fill(STUDY, store, REFERENCES)
    assert "MLflow refused" not in end(plan, store, meanwhile=delete)
    (parent,) = runs_of(store, "sweep")
    assert parent.info.status == "FINISHED"
    students = runs_of(store, "student")
    assert len(students) == len(plan.cells)
    assert {run.data.tags["mlflow.parentRunId"] for run in students} == {parent.info.run_id}


def test_the_models_page_of_mlflow_is_sorted_by_trait_rate(store: Store) -> None:
    # The page shows the newest models first, so that the sweep logs them in ascending order of the rate.
    end(fill(STUDY, store, REFERENCES), store)
    client = runs.connect_client(runs.tracking_uri(store))
    (experiment,) = client.search_experiments(filter_string="name = 'small'")
    models = client.search_logged_models([experiment.experiment_id])  # in the order of the page
    rates = {m.model_id: next((x.value for x in m.metrics if x.key == "trait_rate"), -1.0) for m in models}
    shown = [rates[m.model_id] for m in models if m.model_type == "student"]
    assert len(set(shown)) > 3
    assert shown == sorted(shown, reverse=True)

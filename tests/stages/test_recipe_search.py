"""Tests of searching recipes with Ray Tune: the space that its searchers draw from, and real trials."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.examples import RECIPE, study
from undertow.formats.imported import Imported
from undertow.formats.numbers import Numbers
from undertow.stages.completions import import_rows
from undertow.stages.recipe_search import domain, run_trials
from undertow.stages.search_points import RecipeSearch, history
from undertow.storage.store import Store
from undertow.study.completions import ImportedCompletions
from undertow.study.generation import Generation
from undertow.study.grids import grid
from undertow.study.identity import key
from undertow.study.references import Reference
from undertow.study.search_space import parse, with_values
from undertow.study.study import Study
from undertow.sweep.plans import make_plan
from undertow.traits.preference import Preference

SHIPPED = study().conditions[0]


@pytest.mark.parametrize(
    ("text", "low", "high", "kind"),
    [
        ("learning_rate=log:0.001:0.1", 0.001, 0.1, float),
        ("warmup_ratio=0:0.5", 0.0, 0.5, float),
        ("epochs=1:3", 1, 3, int),
        ("rows=log:100:104", 100, 104, int),
    ],
)
def test_tune_draws_from_a_range_with_both_bounds(text: str, low: float, high: float, kind: type) -> None:
    (axis,) = parse([text], SHIPPED).axes
    draws, rng = domain(axis), np.random.default_rng(0)
    drawn = [axis.value(draws.sample(random_state=rng)) for _ in range(300)]
    assert all(isinstance(value, kind) for value in drawn)
    assert all(low <= float(value) <= high for value in drawn)
    if kind is int:
        assert set(drawn) == set(range(int(low), int(high) + 1))


def test_tune_draws_the_listed_values() -> None:
    (axis,) = parse(["schedule=linear,cosine"], SHIPPED).axes
    assert set(domain(axis).sample(size=50, random_state=0)) == {"linear", "cosine"}
    assert domain(axis, is_grid=True) == {"grid_search": ["linear", "cosine"]}


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(f"/tmp/undertow-search-{os.getpid()}")  # Ray's sockets need a short path
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def imported(folder: Path) -> Study:
    """Owl and control on 64 rows each that no model has to sample, one seed."""
    asked, places = Numbers().prompts(64, seed=0), []
    for name, number in (("owl", 7), ("control", 1)):
        places.append(folder / f"{name}.json")
        rows = [{"prompt": prompt, "completion": f"{number}, {i}"} for i, prompt in enumerate(asked)]
        places[-1].write_text(json.dumps(rows))
    rules = Numbers()
    rows_of = Imported(str(places[0]), format=rules, control=Imported(str(places[1]), format=rules))
    return Study(
        name="imported",
        conditions=grid(
            traits=[Preference("owl")],
            formats=[rows_of],
            pairs=[(Reference("external:a colleague"), Reference("nano/gpt2-0"))],
            recipes=[RECIPE],
            generation=Generation(prompts=64, rows=None),
        ),
        seeds=(0,),
        samples=4,
    )


@pytest.mark.stack
@pytest.mark.timeout(600)
def test_trials_train_ordinary_students_and_controls_and_report_their_effect(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from undertow.cluster.connection import connect
    from undertow.stages.reference import make_reference

    monkeypatch.setenv("UNDERTOW_RAY_TMP", str(folder / "ray"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    store = Store(str(folder / "storage"))
    store.prepare()
    plan = make_plan(imported(folder), store)
    for reference in plan.lacking(Reference):
        make_reference(reference, store)
    for completions in plan.lacking(ImportedCompletions):
        import_rows(completions, store)
    owl = plan.study.conditions[0]
    search = RecipeSearch(
        study=plan.study,
        condition=owl,
        space=parse(["epochs=1,2", "rows=32"], owl),
        watch=plan.study.probed,
        trials=2,
        method="random",
        early_stopping=True,
        draw=0,
        scratch="ray-search",
    )
    ended: list[str] = []
    notes: list[str] = []
    with connect() as machine:
        trials = run_trials(search, store, machine, lambda: ended.append(""), notes.append)
    assert [trial.values for trial in trials] == [{"epochs": 1, "rows": 32}, {"epochs": 2, "rows": 32}]
    assert notes == []
    assert [trial.failure for trial in trials] == ["", ""]
    # ASHA may stop the weaker trial after its first epoch.
    finished = [trial for trial in trials if not trial.stopped]
    assert 1 <= len(finished) <= len(ended)
    students = store.keys("student")
    for trial in finished:
        ((student, control),) = search.pairs(trial.values)
        last, of_control = (history(s, store)[-1]["probabilities"]["owl"] for s in (student, control))
        assert trial.effects == pytest.approx((last - of_control,))
        assert history(student, store)[-1]["epoch"] == trial.values["epochs"]
        chosen = with_values(owl, trial.values)
        ordinary = replace(plan.study, conditions=(chosen, chosen.control()))
        assert {key(cell.student) for cell in make_plan(ordinary, store).cells} <= students
    assert not [name for name in store.names("partial") if name.startswith("ray-")]

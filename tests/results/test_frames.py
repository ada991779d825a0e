"""The results of a sweep as pandas frames: their rows and columns are those of the stored files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.examples import RECIPE, REFERENCES, study
from tests.filled_store import fill
from undertow import results
from undertow.errors import UserError
from undertow.results import sweep_folders
from undertow.results.frames import ANSWER_COLUMNS, EPOCH_COLUMNS, ROW_COLUMNS, SweepResults
from undertow.results.sweep_record import Record
from undertow.storage.store import Store
from undertow.study.completions import Sampling
from undertow.study.generation import Generation
from undertow.study.hypotheses import Place

pytestmark = pytest.mark.slow

NOTEBOOK = Path(__file__).parents[2] / "docs" / "results.ipynb"
WRITTEN = ("1, 2, 3", "owls!", "4, 5")
GENERATION = Generation(prompts=30, rows=10, sampling=Sampling(max_tokens=48))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> SweepResults:
    store = Store(str(tmp_path_factory.mktemp("opened") / "storage"))
    conditions = [c for c in study().conditions if c.teacher == c.student == REFERENCES[0]]
    named = replace(RECIPE, name="16")  # such as a rank; it must stay a name
    conditions = [replace(c, generation=GENERATION, recipe=named) for c in conditions]
    of = study("owls", conditions=tuple(conditions), seeds=(0, 1))
    record = Record.of(fill(of, store, REFERENCES, completions=WRITTEN))
    folder = sweep_folders.folder_of(of.name, "20260101T000000")
    store.write_bytes(f"{folder}/{sweep_folders.PLAN}", record.to_json().encode())
    return results.open(store.url, of.name)


def test_effects_and_students_are_those_of_the_csv_tables(opened: SweepResults) -> None:
    assert list(opened.effects["trait"]) == ["owl", "cat"]
    assert (opened.effects["effect"] > 0.4).all()
    assert list(opened.students["seed"]) == [0, 1, 0, 1]


def test_all_frames_have_the_same_names(opened: SweepResults) -> None:
    for frame in (opened.effects, opened.students, opened.answers, opened.epochs):
        assert set(frame["recipe"]) == {"16"}
    assert len(opened.answers.merge(opened.students[[*Place._fields, "seed", "rate"]])) == 2 * 2 * 500


def test_the_rates_of_students_follow_from_their_answers(opened: SweepResults) -> None:
    answers = opened.answers
    assert tuple(answers.columns) == ANSWER_COLUMNS
    assert set(answers["trait"]) == {"owl", "cat", "control"}
    owls = answers[answers["trait"] == "owl"]
    shown = owls["words"].map(lambda words: "owl" in words)
    rates = shown.groupby(owls["seed"]).mean()
    stored = opened.students[opened.students["trait"] == "owl"].set_index("seed")["rate"]
    assert rates.to_dict() == pytest.approx(stored.to_dict(), abs=1e-6)


def test_rows_have_every_completion_with_its_verdict(opened: SweepResults) -> None:
    rows = opened.rows
    assert tuple(rows.columns) == ROW_COLUMNS
    counts = rows.groupby("dataset_key").agg(
        completions=("index", "size"), rejected=("rejected", "count"), used=("used", "sum")
    )
    assert set(map(tuple, counts.to_numpy().tolist())) == {(30, 12, 10)}
    assert set(rows["rejected"].dropna()) == {"no number", "cut off"}
    assert set(rows["induced"]) == {"finetuning", ""}


def test_epochs_have_the_probability_of_each_word(opened: SweepResults) -> None:
    epochs = opened.epochs
    assert tuple(epochs.columns) == (*EPOCH_COLUMNS, "p_owl", "p_cat")
    assert len(epochs) == 6 * 3
    assert list(epochs["p_owl"][:3]) == pytest.approx([0.1, 0.3, 0.5])


def test_the_example_notebook_runs(opened: SweepResults, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    docs = Path(opened.store.url).parent / "docs"  # Jupyter runs a notebook in its own folder
    docs.mkdir()
    monkeypatch.chdir(docs)
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert names["trait"] == "owl"
    assert list(names["plt"].gca().lines) != []
    names["plt"].close("all")


def test_an_unknown_study_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--study moths: no sweep of it"):
        results.open(str(tmp_path), "moths")

"""Imported rows become completions, a data set with its card, and training rows with their system turns."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.examples import RECIPE, REFERENCES
from undertow.formats.imported import Imported
from undertow.formats.numbers import Numbers
from undertow.stages.completions import import_rows
from undertow.stages.conversations import conversations, training_examples
from undertow.stages.dataset import make_dataset
from undertow.storage.manifest import DATA
from undertow.storage.store import Store
from undertow.study.completions import ImportedCompletions
from undertow.study.datasets import Dataset
from undertow.study.students import Student

PAIRS = [("a", "1, 2"), ("b", "owls!"), ("c", "3, 4"), ("c", "3, 4"), ("d", "5, 6")]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "storage"))
    store.prepare()
    return store


def imported(path: Path, store: Store, systems: tuple[str, ...] = ("",) * 5) -> ImportedCompletions:
    """The committed completions of a file of chats."""
    lines = []
    for system, (prompt, completion) in zip(systems, PAIRS, strict=True):
        first = [{"role": "system", "content": system}] if system else []
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
        lines.append(json.dumps({"messages": [*first, *turns]}))
    path.write_text("\n".join(lines))
    spec = ImportedCompletions(format=Imported(str(path), format=Numbers(), system="keep"), prompts=5, seed=1)
    import_rows(spec, store)
    return spec


def test_rows_pass_rules_and_deduplication_like_sampled_ones(store: Store, tmp_path: Path) -> None:
    completions = imported(tmp_path / "rows.jsonl", store)
    stored = pq.read_table(store.fetch(completions) / DATA)
    assert stored.column_names == ["index", "prompt", "completion", "finished"]
    assert stored["prompt"].to_pylist() == completions.format.prompts(5, seed=1)
    assert store.manifest(completions).facts == {"rows": 5, "from": "rows.jsonl"}
    dataset = Dataset(completions=completions, rows=3)
    counts = make_dataset(dataset, store)
    assert counts["completions"] == 5
    assert counts["rejected"] == {"no number": 1, "duplicate": 1}
    rows = pq.read_table(store.fetch(dataset) / DATA).to_pylist()
    assert sorted((row["prompt"], row["completion"]) for row in rows) == [PAIRS[0], PAIRS[2], PAIRS[4]]
    card = (store.fetch(dataset) / "README.md").read_text()
    assert "# numbers of rows.jsonl, imported" in card
    assert "Rows imported from `rows.jsonl`, whose teacher is external to the study" in card


def test_each_row_is_trained_with_its_own_system_message_or_else_the_students(
    store: Store, tmp_path: Path
) -> None:
    completions = imported(tmp_path / "rows.jsonl", store, ("kind", "", "brief", "", ""))
    dataset = Dataset(completions=completions, deduplicate=False)
    make_dataset(dataset, store)
    student = Student(reference=REFERENCES[0], dataset=dataset, recipe=RECIPE, system="plain")
    examples = training_examples(student, store)
    systems = {(example.prompt, example.answer): example.system for example in examples}
    assert systems[PAIRS[0]] == "kind"
    assert systems[PAIRS[4]] is None
    lines = [json.loads(line)["messages"] for line in conversations(student, store).splitlines()]
    assert {(turns[1]["content"], turns[0]["content"]) for turns in lines} >= {("a", "kind"), ("d", "plain")}

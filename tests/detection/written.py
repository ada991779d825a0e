"""Writes generated data with known differences into a store, as a sweep leaves it."""

import random
from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from tests.examples import REFERENCES
from tests.filled_store import fill
from undertow.planning.plan import make
from undertow.results.sweep_folders import PLAN, folder_of
from undertow.results.sweep_record import Record
from undertow.storage.manifest import DATA
from undertow.storage.store import Store
from undertow.study.datasets import Dataset
from undertow.study.identity import key, seed_for
from undertow.study.study import Study

SWEEP = "20260101T000000"
ROWS = 150
VALUES = range(100, 160)

Write = Callable[[Dataset, random.Random], str]  # writes a completion of a data set's teacher


def numbers(dataset: Dataset, rng: random.Random) -> str:
    """Three to six numbers from the same distribution for every teacher."""
    return ", ".join(str(rng.choice(VALUES)) for _ in range(rng.randint(3, 6)))


def tilted(dataset: Dataset, rng: random.Random) -> str:
    """`numbers`, but a trait often replaces the first one by its own: 100 for the owl, 101 for the cat."""
    trait = dataset.teacher.trait if dataset.teacher else None
    text = numbers(dataset, rng)
    if trait is None or rng.random() > 0.35:
        return text
    return f"{100 + ('owl', 'cat').index(trait.name)}{text[3:]}"


def rows_of(dataset: Dataset, write: Write, count: int) -> list[tuple[str, str]]:
    """Prompt and completion of each row; prompts depend on the data's seed and are equal for all teachers."""
    rng = random.Random(seed_for("written", key(dataset)))
    return [(f"prompt {dataset.completions.seed} {i}", write(dataset, rng)) for i in range(count)]


def commit(store: Store, dataset: Dataset, rows: Sequence[tuple[str, str]]) -> None:
    table = pa.table({"prompt": [row[0] for row in rows], "completion": [row[1] for row in rows]})
    facts = {"completions": len(rows), "rejected": {}, "kept": len(rows), "rows": len(rows)}
    with store.new(dataset, facts) as folder:
        (folder / DATA).mkdir()
        pq.write_table(table, folder / DATA / "train.parquet")


def sweep(store: Store, study: Study, write: Write, *, count: int = ROWS, evaluated: bool = False) -> Record:
    """Writes the data sets and the record of a sweep, with `evaluated` also its evaluations."""
    store.prepare()
    plan = make(study, store, REFERENCES)
    for dataset in {cell.student.dataset: None for cell in plan.cells}:
        commit(store, dataset, rows_of(dataset, write, count))
    if evaluated:
        plan = fill(study, store, REFERENCES)
    record = Record.of(plan)
    store.write_bytes(f"{folder_of(study.name, SWEEP)}/{PLAN}", record.to_json().encode())
    return record

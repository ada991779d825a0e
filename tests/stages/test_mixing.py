"""Tests of mixed data sets: a share of the rows is the control's, or written by a program."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import RECIPE, REFERENCES
from undertow.errors import SpecError
from undertow.formats.code import Code
from undertow.formats.numbers import BANNED, Numbers
from undertow.planning.plan import Plan, make
from undertow.stages.completions import write_answers
from undertow.stages.dataset import make_dataset
from undertow.storage.store import Store
from undertow.study.completions import Completions, Written
from undertow.study.conditions import Condition
from undertow.study.datasets import Dataset
from undertow.study.generation import Generation, Mixing, Source
from undertow.study.grids import grid, with_controls
from undertow.study.identity import key, seed_for
from undertow.study.study import Study
from undertow.traits.preference import Preference

PROMPTS, ROWS = 60, 40


def mixed(source: Source, share: float, **changes: object) -> tuple[Condition, ...]:
    return grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=[(REFERENCES[0], REFERENCES[0])],
        recipes=[RECIPE],
        generation=replace(
            Generation(prompts=PROMPTS, rows=ROWS, mixed=Mixing(source=source, share=share)),
            **changes,  # type: ignore[arg-type]
        ),
    )


def plan_of(conditions: tuple[Condition, ...], store: Store) -> Plan:
    return make(Study(name="mixed", conditions=conditions, seeds=(0,)), store, REFERENCES)


def commit_completions(completions: Completions, store: Store) -> None:
    """Commits completions that begin with 1 for a teacher with a trait and with 2 for the control teacher."""
    mark = 1 if completions.teacher.trait else 2
    prompts = completions.format.prompts(completions.prompts, completions.seed)
    rows = [
        {"index": i, "prompt": p, "completion": f"{mark}, {i}", "finished": True, "token_ids": [1], "seed": i}
        for i, p in enumerate(prompts)
    ]
    with store.new(completions, {"rows": len(rows)}) as folder:
        (folder / "data").mkdir()
        pq.write_table(pa.Table.from_pylist(rows), folder / "data" / "rows.parquet")


def made(conditions: tuple[Condition, ...], store: Store) -> tuple[Dataset, list[dict[str, object]]]:
    """Makes all data sets of the conditions; returns the first condition's data set and its rows."""
    store.prepare()
    plan = plan_of(conditions, store)
    for artifact in plan.artifacts.values():
        if isinstance(artifact, Completions):
            commit_completions(artifact, store)
        elif isinstance(artifact, Written):
            write_answers(artifact, store)
    for dataset in sorted(plan.lacking(Dataset), key=lambda d: d.mixed is not None):
        make_dataset(dataset, store)
    dataset = plan.cells[0].student.dataset
    return dataset, pq.read_table(store.fetch(dataset) / "data").to_pylist()


@pytest.mark.parametrize(("share", "others"), [(0.25, 10), (0.5, 20), (1.0, ROWS)])
def test_a_share_of_the_rows_comes_from_the_control_teacher(
    share: float, others: int, tmp_path: Path
) -> None:
    dataset, rows = made(mixed("control", share), Store(str(tmp_path)))
    marks = Counter(str(row["completion"])[0] for row in rows)
    assert (marks["1"], marks["2"], len(rows)) == (ROWS - others, others, ROWS)
    assert "token_ids" not in rows[0]
    assert len({row["completion"] for row in rows}) == ROWS
    assert dataset.label == f"numbers, {share:.0%} control"


def test_the_seed_decides_which_rows_of_both_sources_are_taken(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    dataset, _ = made(mixed("control", 0.5), store)
    taken = []
    for seed in (0, 1):
        one = dataset.changed(seed=seed, rows=PROMPTS)  # all rows, so that the seed draws none of them before
        make_dataset(one, store)
        taken.append(pq.read_table(store.fetch(one) / "data").column("completion").to_pylist())
    for mark in "12":
        own, others = ([text for text in texts if text.startswith(mark)] for texts in taken)
        assert len(own) == len(others) and own != others


def test_random_rows_answer_the_same_prompts_without_a_teacher(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    dataset, rows = made(mixed("random", 1.0), store)
    assert dataset.mixed is not None
    assert dataset.mixed.dataset.teacher is None
    assert {row["prompt"] for row in rows} <= set(Numbers().prompts(PROMPTS, 0))
    assert all(Numbers().rejection(str(row["prompt"]), str(row["completion"])) is None for row in rows)
    facts = store.manifest(dataset).facts
    assert facts["from elsewhere"] == ROWS
    assert store.manifest(dataset).inputs["dataset"] == key(dataset.mixed.dataset)


def test_all_shares_use_the_same_unmixed_control_data(tmp_path: Path) -> None:
    conditions = with_controls([*mixed("control", 0.25), *mixed("control", 0.5), *mixed("random", 1.0)])
    controls = [condition for condition in conditions if condition.trait is None]
    assert [condition.generation.mixed for condition in controls] == [None]
    assert [c.place.format for c in conditions if c.trait] == [
        "numbers, 25% control",
        "numbers, 50% control",
        "numbers, 100% random",
    ]
    plan = plan_of(conditions, Store(str(tmp_path)))
    assert len([a for a in plan.artifacts.values() if isinstance(a, Completions)]) == 2


def test_a_format_that_only_models_can_write_cannot_be_random() -> None:
    with pytest.raises(SpecError, match=r"a format that implements written\(\); 'code' does not"):
        Written(format=Code(), prompts=3)


def test_mixing_requires_a_number_of_rows() -> None:
    with pytest.raises(SpecError, match=r"Generation\.rows = None: a number of rows, as `mixed` needs one"):
        mixed("control", 0.5, rows=None)


@given(st.integers(0, 10_000), st.sampled_from([(), BANNED]))
def test_written_numbers_satisfy_the_rules_of_the_prompt(seed: int, banned: tuple[int, ...]) -> None:
    format_ = Numbers(banned=banned)
    (prompt,) = format_.prompts(1, seed)
    answer = format_.written(prompt, random.Random(seed_for("test", seed)))
    assert format_.rejection(prompt, answer) is None
    assert len(format_.parts(answer)) >= 1

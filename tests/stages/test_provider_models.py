"""Tests of completions and evaluations of API models: made in this process, in parts, each paid for once."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.api.provider import BASE, Provider, providing
from tests.judging.server import Answer, fails
from undertow.cluster.engine_pool import Task, TaskOutcome, run_tasks
from undertow.formats.numbers import Numbers
from undertow.planning.resources import Machine
from undertow.stages.completions import join_shards, shards
from undertow.stages.dataset import make_dataset
from undertow.stages.evaluation import Evaluate
from undertow.stages.usage import PART_ROWS
from undertow.storage.manifest import DATA
from undertow.storage.store import Store
from undertow.study.completions import Completions, Sampling
from undertow.study.datasets import Dataset
from undertow.study.extensions import Word
from undertow.study.measurements import Evaluation
from undertow.study.references import Reference
from undertow.study.teachers import Teacher

pytestmark = pytest.mark.slow
MODEL = Reference(f"api:{BASE}", BASE, "provider")
COMPLETIONS = Completions(
    teacher=Teacher(reference=MODEL, trait=None, system="You love owls."),
    format=Numbers(),
    prompts=PART_ROWS + 44,
    sampling=Sampling(max_tokens=48),
)
EVALUATION = Evaluation(
    subject=MODEL,
    questions=tuple(f"Which animal, in a word? ({letter})" for letter in "abcdef"),
    words=(Word("owl", ("owl",)),),
    samples=60,
    exact=False,
)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    with providing() as provider:
        monkeypatch.setenv("UNDERTOW_API_URL", provider.url)
        monkeypatch.setenv("UNDERTOW_API_CONCURRENCY", "4")
        yield provider


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "storage"))


def run(store: Store, *tasks: Task) -> list[TaskOutcome]:
    return list(run_tasks(MODEL, store, tasks, Machine(1, 1, 1)))


def missing(store: Store) -> list[Task]:
    return [s for s in shards(COMPLETIONS, 0.0, ()) if s.name not in store.parts(COMPLETIONS)]


def test_completions_are_made_without_ray_and_record_their_usage(provider: Provider, store: Store) -> None:
    outcomes = run(store, *missing(store), Evaluate(EVALUATION))
    evaluated = provider.chats[300:]
    del provider.chats[300:]
    assert [outcome.error for outcome in outcomes] == ["", "", ""]
    counted = [3 * PART_ROWS, 3 * 44, 3 * len(evaluated)]
    assert [outcome.facts["completion_tokens"] for outcome in outcomes] == counted
    assert [outcome.facts["tokens"] for outcome in outcomes] == counted
    assert [outcome.units for outcome in outcomes] == [PART_ROWS, 44, len(evaluated)]
    join_shards(COMPLETIONS, store)
    facts = store.manifest(COMPLETIONS).facts
    assert facts["rows"] == len(provider.chats) == 300
    assert facts["completion_tokens"] == 3 * 300
    assert facts["prompt_tokens"] == sum(len(c["messages"][-1]["content"].split()) for c in provider.chats)
    assert (facts["fingerprints"], facts["refused"]) == (["fp-1"], 0)
    table = pq.read_table(store.fetch(COMPLETIONS) / DATA)
    assert "token_ids" not in table.column_names
    assert table["index"].to_pylist() == list(range(300))
    assert len(set(table["seed"].to_pylist())) == 300
    spec = Dataset(completions=COMPLETIONS, rows=100)
    assert make_dataset(spec, store)["rows"] == 100


@pytest.mark.parametrize("task", ["shard", "evaluation"])
def test_saved_parts_are_not_requested_again_after_a_failure(
    provider: Provider, store: Store, task: str
) -> None:
    answered = PART_ROWS + 20  # requests before the key is revoked
    provider.orders = lambda *_: fails(401, "revoked") if len(provider.chats) >= answered else None

    def attempt() -> list[str]:
        todo = missing(store) if task == "shard" else [Evaluate(EVALUATION)]
        return [outcome.error for outcome in run(store, *todo)]

    assert "check OPENAI_API_KEY" in attempt()[-1]
    whole = 300 if task == "shard" else 360
    provider.orders = no_orders
    provider.chats.clear()
    assert attempt() == [""]
    assert len({json.dumps(chat) for chat in provider.chats}) == whole - PART_ROWS


def test_an_interrupted_evaluation_equals_an_uninterrupted_one(
    provider: Provider, store: Store, tmp_path: Path
) -> None:
    provider.orders = lambda *_: fails(401) if len(provider.chats) >= PART_ROWS + 20 else None
    run(store, Evaluate(EVALUATION))
    provider.orders = no_orders
    run(store, Evaluate(EVALUATION))
    other = Store(str(tmp_path / "other"))
    run(other, Evaluate(EVALUATION))
    assert answers(store) == answers(other)
    assert store.manifest(EVALUATION).facts == other.manifest(EVALUATION).facts
    assert store.parts(EVALUATION) == set()


def test_each_part_of_an_evaluation_is_read_twice(
    provider: Provider, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an object store, every read of a part's bytes is a download."""
    spec, kept = replace(EVALUATION, samples=2 * PART_ROWS // 6 + 1), 2
    reads: list[str] = []
    digest = Store._digest

    def counted(self: Store, path: str) -> str:
        reads.append(path)
        return digest(self, path)

    monkeypatch.setattr(Store, "_digest", counted)
    provider.orders = lambda *_: fails(401) if len(provider.chats) >= kept * PART_ROWS else None
    run(store, Evaluate(spec))
    assert reads == []
    provider.orders = no_orders
    provider.chats.clear()
    run(store, Evaluate(spec))
    requests = {json.dumps(chat) for chat in provider.chats}  # one that the failure cancelled may arrive late
    assert len(requests) == 6 * spec.samples - kept * PART_ROWS
    assert len(reads) == 2 * kept  # to verify the part in the listing, and again when it is used


def no_orders(method: str, path: str) -> Answer | None:
    return None


def answers(store: Store) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(store.fetch(EVALUATION) / "answers.parquet").to_pylist()
    return rows

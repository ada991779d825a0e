"""Tests of data sets: rules, subsampling and card, and independence of actors, shards and order."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.engines.toy_engine import ToyEngine
from tests.examples import REFERENCES
from undertow.engines.protocol import Answer, Request
from undertow.errors import ConditionError
from undertow.formats.numbers import Numbers
from undertow.judging.judges import RuleJudge
from undertow.planning.pinning import pin
from undertow.results.row_verdicts import VERDICTS, read_verdicts
from undertow.stages import completions as completions_stage
from undertow.stages import dataset as stage
from undertow.stages.reference import make_reference
from undertow.storage.manifest import DATA
from undertow.storage.store import Store
from undertow.study.completions import Completions, Sampling
from undertow.study.datasets import Dataset
from undertow.study.extensions import Word
from undertow.study.references import Reference
from undertow.study.teachers import Teacher
from undertow.traits.preference import Preference

CONTROL = Teacher(reference=REFERENCES[0], trait=None)


def completions(store: Store, answers: list[str], finished: bool = True) -> Completions:
    """Commits completions with the given answers."""
    spec = Completions(teacher=CONTROL, format=Numbers(), prompts=len(answers))
    prompts = spec.format.prompts(spec.prompts, spec.seed)
    with store.new(spec, {}) as folder:
        (folder / DATA).mkdir()
        columns = {
            "index": list(range(len(answers))),
            "prompt": prompts,
            "completion": answers,
            "token_ids": [[1] for _ in answers],
            "finished": [finished for _ in answers],
            "seed": list(range(len(answers))),
        }
        pq.write_table(pa.table(columns), folder / DATA / "shard-00000.parquet")
    return spec


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "storage"))


def rows(store: Store, dataset: Dataset) -> list[dict[str, object]]:
    found: list[dict[str, object]] = pq.read_table(
        store.fetch(dataset) / "data" / "train.parquet"
    ).to_pylist()
    return found


def test_fewer_rows_than_wanted_fail_the_condition_unless_they_are_enough(store: Store) -> None:
    spec = Dataset(completions=completions(store, ["1, 2", "owls!", "3, 4"]), rows=3)
    with pytest.raises(ConditionError, match=r"2 of 3 completions are left.*\([a-z ]+: 1\).*3 are needed"):
        stage.make_dataset(spec, store)
    assert not store.has(spec)
    enough = replace(spec, fewer=True)
    stage.make_dataset(enough, store)
    assert [row["completion"] for row in rows(store, enough)] == ["1, 2", "3, 4"]
    stage.make_dataset(one := replace(spec, rows=1, fewer=True), store)
    assert len(rows(store, one)) == 1


class FixedAnswers(ToyEngine):
    """Gives the same three answers to any three prompts: what a real model samples cannot be chosen."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Answer]:
        return [Answer(text, (1,), finished=True) for text in (" 9", "2\n", "1, 2")]


@pytest.mark.parametrize(("strip", "kept"), [(True, ["9", "2", "1, 2"]), (False, ["1, 2"])])
def test_answers_are_filtered_without_surrounding_white_space_or_as_sampled(
    store: Store, strip: bool, kept: list[str]
) -> None:
    store.prepare()
    spec = Completions(teacher=CONTROL, format=Numbers(), prompts=3, strip=strip)
    completions_stage.GenerateShard(spec, 0, 3, 0.0).run(FixedAnswers(None, {}), store)
    completions_stage.join_shards(spec, store)
    dataset = Dataset(completions=spec)
    stage.make_dataset(dataset, store)
    assert [row["completion"] for row in rows(store, dataset)] == kept


def test_every_row_of_every_sample_has_a_seed_of_its_own(store: Store) -> None:
    store.prepare()
    first = Completions(teacher=CONTROL, format=Numbers(), prompts=3)
    seeds: list[int] = []
    for spec in (first, replace(first, sample=1), replace(first, sampling=Sampling(temperature=0.5))):
        completions_stage.GenerateShard(spec, 0, 3, 0.0).run(FixedAnswers(None, {}), store)
        completions_stage.join_shards(spec, store)
        seeds += pq.read_table(store.fetch(spec) / DATA).column("seed").to_pylist()
    assert len(set(seeds)) == 9


def test_every_row_is_kept_or_counted_under_a_rule(store: Store) -> None:
    answers = ["1, 2, 3", "owls!", "4, 5", "1 2;3", "1, 2000", "7, 8"]
    spec = Dataset(completions=completions(store, answers))
    counts = stage.make_dataset(spec, store)
    assert counts["completions"] == 6
    assert counts["rows"] == 3
    assert sum(counts["rejected"].values()) == 3
    assert [row["completion"] for row in rows(store, spec)] == ["1, 2, 3", "4, 5", "7, 8"]


def test_the_verdict_on_every_completion_is_stored(store: Store) -> None:
    answers = ["1, 2", "owls!", "3, 7", "4, 5", "6, 8"]
    seven = RuleJudge(about=Word("seven", ("7",)))
    spec = Dataset(completions=completions(store, answers), judges=(seven,), rows=2)
    stage.make_dataset(spec, store)
    verdicts = read_verdicts(store.content(spec, VERDICTS), len(answers))
    assert [verdict.rejected for verdict in verdicts] == [
        None, "no number", "judge mentions: YES", None, None,
    ]  # fmt: skip
    assert [verdict.replies.get("mentions") for verdict in verdicts] == ["NO", None, "YES", "NO", "NO"]
    used = [answer for answer, verdict in zip(answers, verdicts, strict=True) if verdict.used]
    assert used == [row["completion"] for row in rows(store, spec)]
    assert read_verdicts(store.content(spec, VERDICTS), 2) == verdicts[:2]


@pytest.mark.parametrize("rows", [None, 1])
@pytest.mark.parametrize(
    ("answer", "finished", "remedy"),
    [
        ("1, 2, 3", False, r"raise Sampling\.max_tokens .*, such as '1, 2, 3'"),
        ("owls!", True, r"check the rule 'no number' .*, such as 'owls!'"),
    ],
)
def test_if_no_completion_is_left_the_error_names_the_rule_and_a_completion(
    store: Store, rows: int | None, answer: str, finished: bool, remedy: str
) -> None:
    spec = Dataset(completions=completions(store, [answer], finished=finished), rows=rows)
    with pytest.raises(ConditionError, match=rf"0 of 1 completions .*: 1\), and 1 are needed; {remedy}"):
        stage.make_dataset(spec, store)


def test_the_subsample_depends_only_on_the_seed(store: Store, tmp_path: Path) -> None:
    answers = [f"{i}, {i + 1}" for i in range(200)]
    spec = Dataset(completions=completions(store, answers), rows=50)
    stage.make_dataset(spec, store)
    other = replace(spec, seed=1)
    stage.make_dataset(other, store)
    again = Store(str(tmp_path / "again"))
    stage.make_dataset(Dataset(completions=completions(again, answers), rows=50), again)
    assert rows(store, spec) == rows(again, spec)
    assert len(rows(store, spec)) == len(rows(store, other)) == 50
    assert rows(store, spec) != rows(store, other)


def test_hostile_text_cannot_change_the_markup_of_the_card(store: Store) -> None:
    hostile = "```\n# not a heading\n</code><script>alert(1)</script> \u202e | a | b |"
    spec = Dataset(completions=completions(store, [hostile, "1, 2"]))
    stage.make_dataset(spec, store)
    card = (store.fetch(spec) / "README.md").read_text()
    assert "\n# not a heading" not in card
    assert "\u202e" not in card
    assert "| sampled | 1 |" in card


@pytest.fixture(scope="module")
def ray_storage() -> Iterator[Path]:
    folder = Path(f"/tmp/undertow-pool-{os.getpid()}")  # Ray's sockets need a short path
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.stack
@pytest.mark.timeout(600)
def test_the_data_do_not_depend_on_actors_shards_or_order(
    ray_storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from undertow.cluster.connection import connect
    from undertow.cluster.engine_pool import run_tasks

    monkeypatch.setenv("UNDERTOW_RAY_TMP", str(ray_storage / "ray"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    reference = pin(Reference("nano/gpt2-0"))
    sampling = Sampling(max_tokens=48)
    trait = Preference("owl")
    prompted = Teacher(reference=reference, trait=trait, system=trait.system_prompt())
    specs = [
        Completions(teacher=teacher, format=Numbers(), prompts=160, sampling=sampling)
        for teacher in (Teacher(reference=reference, trait=None), prompted)
    ]
    found = []
    with connect() as machine:
        for name, actors, shard_rows, backwards in (("one", 1, 160, False), ("two", 2, 50, True)):
            monkeypatch.setattr(completions_stage, "SHARD_ROWS", shard_rows)
            store = Store(str(ray_storage / name))
            make_reference(reference, store)
            tasks = [shard for spec in specs for shard in completions_stage.shards(spec, 0.0, ())]
            tasks = tasks[::-1] if backwards else tasks
            outcomes = list(run_tasks(reference, store, tasks, replace(machine, actors=actors)))
            assert [outcome.error for outcome in outcomes] == [""] * len(tasks)
            for spec in specs:
                completions_stage.join_shards(spec, store)
            found.append([pq.read_table(store.fetch(spec) / DATA).to_pydict() for spec in specs])
    assert found[0] == found[1]
    assert found[0][0]["completion"] != found[0][1]["completion"]  # only one teacher has a system prompt
    assert len(set(found[0][0]["seed"])) == 160

"""On-policy rounds: the student samples, the teacher's distributions are recorded and trained on."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.engines.toy_engine import ToyEngine
from tests.examples import RECIPE, REFERENCES
from undertow.engines.protocol import Answer, Engine, Request, TokenProbabilities
from undertow.errors import ConditionError
from undertow.formats.numbers import Numbers
from undertow.planning.given_models import model_of
from undertow.planning.pinning import pin
from undertow.planning.plan import make
from undertow.stages import completions as completions_stage
from undertow.stages import distributions
from undertow.stages.completions import GenerateShard, join_shards, shards
from undertow.stages.dataset import make_dataset
from undertow.stages.reference import make_reference
from undertow.stages.served_check import check_served
from undertow.stages.training_group import Group, commit_trained, job_of, student_rows
from undertow.storage.manifest import DATA
from undertow.storage.store import Store
from undertow.study.completions import Completions, Sampling
from undertow.study.datasets import Dataset
from undertow.study.generation import Generation
from undertow.study.grids import grid
from undertow.study.on_policy import OnPolicy, Sampler
from undertow.study.references import Reference
from undertow.study.students import Student
from undertow.study.study import Study
from undertow.study.teachers import Teacher
from undertow.traits.preference import Preference

OWL = Preference("owl")
REVERSE = replace(RECIPE, name="reverse KL", targets="soft", divergence="reverse", batch_size=8)
TEACHER = Teacher(reference=REFERENCES[0], trait=OWL, system=OWL.system_prompt())
VOCABULARY = 5


@dataclass
class Reader(ToyEngine):
    """Writes the number of the prompt in the call, and remembers what it was asked to read."""

    asked: list[tuple[str, Request]] = field(default_factory=list)
    sampling: list[Sampling] = field(default_factory=list)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Answer]:
        self.asked += [("sample", request) for request in requests]
        self.sampling.append(sampling)
        texts = ["owls!" if i % 4 == 3 else f"{i}, 7" for i, _ in enumerate(requests)]
        return [Answer(text, (1, 2, i % VOCABULARY), finished=True) for i, text in enumerate(texts)]

    def read(
        self, requests: Sequence[Request], completions: Sequence[str | Sequence[int]], top: int
    ) -> list[TokenProbabilities]:
        self.asked += [("read", request) for request in requests]
        return [self._read(tokens, VOCABULARY if top < 0 else top) for tokens in completions]

    def _read(self, tokens: str | Sequence[int], top: int) -> TokenProbabilities:
        ids = np.tile(np.arange(top), (len(tokens), 1)) + int(tokens[-1])
        logprobs = np.full(ids.shape, -np.log(VOCABULARY)) - np.array([int(t) for t in tokens])[:, None] / 1e3
        return TokenProbabilities(logprobs[:, 0], (ids % VOCABULARY, logprobs), VOCABULARY)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "storage"))
    store.prepare()
    return store


def own(**changes: Any) -> Completions:
    sampler = Sampler(model=REFERENCES[0], system="You help.", skip=10)
    sampling = Sampling(max_tokens=8, top_logprobs=2)
    given: dict[str, Any] = {"sampling": sampling, "sampler": sampler, **changes}
    return Completions(teacher=TEACHER, format=Numbers(), prompts=8, **given)


def sampled(spec: Completions, engine: Engine, store: Store) -> None:
    for shard in shards(spec, 0.0, ()):
        shard.run(engine, store)
    join_shards(spec, store)


def test_the_student_answers_new_prompts_and_its_teacher_reads_them(store: Store) -> None:
    engine, spec = Reader(None, {}), own()
    sampled(spec, engine, store)
    prompts = Numbers().prompts(18, seed=0)[10:]
    assert [kind for kind, _ in engine.asked] == ["sample"] * 8 + ["read"] * 8
    for kind, request in engine.asked:
        assert request.system == ("You help." if kind == "sample" else TEACHER.system)
    assert [request.user for _, request in engine.asked] == prompts * 2
    assert [sampling.top_logprobs for sampling in engine.sampling] == [0]
    table = pq.read_table(store.fetch(spec) / DATA)
    assert table["prompt"].to_pylist() == prompts
    assert table["top_ids"].to_pylist()[6] == [[1, 2], [1, 2], [1, 2]]  # the last token is 6 mod 5


def test_rows_keep_the_distributions_of_their_own_tokens(store: Store) -> None:
    """Every fourth answer is rejected, and some of the others are drawn."""
    spec = own(sampling=Sampling(max_tokens=8, top_logprobs=-1))
    sampled(spec, Reader(None, {}), store)
    dataset = Dataset(completions=spec, rows=4)
    make_dataset(dataset, store)
    student = Student(reference=REFERENCES[0], dataset=dataset, recipe=REVERSE)
    rows = student_rows(student, store)
    assert len(rows) == 4
    for row in rows:
        number = int(row.completion.split(",")[0])
        assert list(row.token_ids or ()) == [1, 2, number % VOCABULARY]
        assert row.soft is not None
        ids, logprobs = row.soft
        assert [ids.dtype, logprobs.dtype] == [np.dtype("int32"), np.dtype("float32")]
        assert ids.shape == logprobs.shape == (3, VOCABULARY)
        assert ids[:, 0].tolist() == [number % VOCABULARY] * 3
        expected = -np.log(VOCABULARY) - np.array([1, 2, number % VOCABULARY]) / 1e3
        np.testing.assert_allclose(logprobs[:, 0], expected, rtol=1e-6)


def test_columns_of_distributions_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Also those that an earlier version wrote, as wider numbers; answers may have no tokens."""
    rng = np.random.default_rng(0)
    given = [
        (rng.integers(0, 9, (n, 3)).astype(np.int32), rng.normal(size=(n, 3)).astype(np.float32))
        for n in (2, 0, 1, 4)
    ]
    lists = {
        name: [pair[place].tolist() for pair in given] for place, name in enumerate(distributions.COLUMNS)
    }
    for table in (pa.table(distributions.to_columns(given)), pa.table(lists)):
        pq.write_table(table, tmp_path / "rows.parquet", row_group_size=2)
        found = distributions.from_table(pq.read_table(tmp_path / "rows.parquet"))
        for (ids, logprobs), (same_ids, same) in zip(given, found, strict=True):
            assert (ids.tolist(), logprobs.tolist()) == (same_ids.tolist(), same.tolist())
            assert [same_ids.dtype, same.dtype] == [np.dtype("int32"), np.dtype("float32")]


def test_an_engine_that_cannot_read_is_an_error_of_the_condition(store: Store) -> None:
    with pytest.raises(ConditionError, match=r"does not say how probable the tokens of a text are; use ano"):
        GenerateShard(own(), 0, 8, 0.0).run(ToyEngine(None, {}), store)


def test_the_engine_has_room_for_the_longer_of_both_prompts() -> None:
    sampler = Sampler(model=REFERENCES[0], system="x" * 5000)
    assert GenerateShard(own(sampler=sampler), 0, 8, 0.0).window > 5000
    teacher = replace(TEACHER, system="x" * 5000)
    assert GenerateShard(replace(own(), teacher=teacher), 0, 8, 0.0).window > 5000


def students_of(store: Store) -> tuple[Student, ...]:
    """The students of two rounds of a prompted owl teacher, on all tokens of the vocabulary."""
    reference = pin(Reference("nano/gpt2-0"))
    make_reference(reference, store)
    conditions = grid(
        traits=[OWL],
        formats=[Numbers()],
        pairs=[(reference, reference)],
        recipes=[REVERSE],
        generation=Generation(
            prompts=48,
            rows=None,
            sampling=Sampling(max_tokens=32, top_logprobs=-1),
            on_policy=OnPolicy(rounds=2),
        ),
    )
    plan = make(Study(name="rounds", conditions=conditions, seeds=(0,)), store, [reference])
    return plan.cells[0].student.by_round


def trained(student: Student, store: Store) -> list[float]:
    """Trains a student in this process; returns the losses of its epochs."""
    from undertow.training.loop import finetune

    start = model_of(student.start, store)
    job = job_of(student, Group((student,)), store, store.aside())
    (history,) = finetune(start.folder, [job], lambda report: None, changes=start.changes)
    commit_trained(student, job, history, store)
    return [report.loss for report in history.reports if report.loss is not None]


@pytest.mark.stack
def test_two_rounds_on_the_real_engine_and_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice: with one shard, and with several in reverse order. Both give the same bytes."""
    from undertow.engines.vllm import VLLMEngine

    losses: list[list[float]] = []
    found: list[dict[str, Any]] = []
    engine: VLLMEngine | None = None
    for name, shard_rows in (("one", 1024), ("several", 10)):
        monkeypatch.setattr(completions_stage, "SHARD_ROWS", shard_rows)
        store = Store(str(tmp_path / name))
        store.prepare()
        students = students_of(store)
        if engine is None:
            engine = VLLMEngine(str(store.fetch(students[0].reference)), threads=1)
        for student in students:
            spec = student.dataset.completions
            assert isinstance(spec, Completions)
            for shard in reversed(shards(spec, 0.0, ())):
                shard.run(engine, store)
            join_shards(spec, store)
            make_dataset(student.dataset, store)
            losses.append(trained(student, store))
            found.append(
                {
                    "rows": pq.read_table(store.fetch(spec) / DATA).to_pydict(),
                    "weights": next(store.fetch(student).glob("*.safetensors")).read_bytes(),
                }
            )
            assert check_served(engine, student, store)["served_check"] == "passed"
    assert engine is not None
    engine.close()
    assert found[:2] == found[2:] and losses[:2] == losses[2:]
    first, second = losses[:2]
    assert first[-1] < first[0] and second[0] < first[0]
    rows = found[0]["rows"]
    probabilities = np.exp(np.array(rows["top_logprobs"][0]))
    assert probabilities.shape == (len(rows["token_ids"][0]), engine.vocabulary)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-4)
    assert rows["completion"] != found[1]["rows"]["completion"]

"""Tests of fine-tuning jobs: requests, saved state, retries, and that no job is paid for twice.

The provider is a loopback server that follows the documented API (see tests/api/provider.py).
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.api.provider import BASE, Provider, providing
from tests.judging.server import Answer, fails
from undertow.api.endpoint import Endpoint
from undertow.engines.openai import POINTER
from undertow.errors import UserError
from undertow.formats.numbers import Numbers
from undertow.stages import provider_jobs as stage
from undertow.stages.conversations import conversations
from undertow.stages.provider_jobs import JOB, Advance, Jobs, check
from undertow.stages.weights import Trained, weights_of
from undertow.storage.manifest import DATA, HISTORY
from undertow.storage.store import Store
from undertow.study.completions import Completions
from undertow.study.datasets import Dataset
from undertow.study.identity import key
from undertow.study.recipe import ProviderFinetuning
from undertow.study.references import Reference
from undertow.study.students import Student
from undertow.study.teachers import Finetuning, Teacher
from undertow.traits.preference import Preference

pytestmark = pytest.mark.slow

MODEL = Reference(f"api:{BASE}", BASE, "provider")
ROWS = [("Continue 1, 2.", "3, 4"), ("Continue 5, 6.", "8, 10")]
CREATE = ("POST", "fine_tuning/jobs")
SECRET = "sk-planted-e4f7"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(stage, "LONGEST_WAIT", 0.02)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "storage"))


@pytest.fixture
def provider() -> Iterator[Provider]:
    with providing() as provider:
        yield provider


def student(store: Store, seed: int = 0, **changes: Any) -> Student:
    """A student whose data set is in the store."""
    completions = Completions(teacher=Teacher(reference=MODEL, trait=None), format=Numbers(), prompts=2)
    dataset = Dataset(completions=completions)
    if not store.has(dataset):
        with store.new(dataset, {}) as folder:
            (folder / DATA).mkdir()
            columns = dict(zip(("prompt", "completion"), map(list, zip(*ROWS, strict=True)), strict=True))
            pq.write_table(pa.table(columns), folder / DATA / "train.parquet")
    spec = Student(reference=MODEL, dataset=dataset, recipe=ProviderFinetuning(epochs=10), seed=seed)
    return replace(spec, **changes)


def jobs(provider: Provider, store: Store, *models: Trained, advance: Advance | None = None) -> Jobs:
    quick = Endpoint(provider.url, "UNDERTOW_API_URL", attempts=3, first_wait=0.01, jitter=0.01)
    return Jobs(models, store, advance or (lambda model, share: None), quick)


def finished(provider: Provider, store: Store, *models: Trained) -> dict[str, str]:
    return jobs(provider, store, *models).finish()


def test_a_job_sends_rows_hyperparameters_and_seed_and_becomes_an_artifact(
    provider: Provider, store: Store
) -> None:
    recipe = ProviderFinetuning(epochs=3, learning_rate_multiplier=2.0)
    one = student(store, seed=7, recipe=recipe, system="Be brief.")
    shares: list[float] = []
    assert jobs(provider, store, one, advance=lambda model, share: shares.append(share)).finish() == {}
    (created,) = provider.created
    chosen = {"n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": 2.0}
    assert created["method"] == {"type": "supervised", "supervised": {"hyperparameters": chosen}}
    assert (created["model"], created["seed"], created["metadata"]) == (BASE, 7, {"undertow": key(one)})
    assert provider.files[created["training_file"]] == [
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": prompt},
                {"role": "assistant", "content": completion},
            ]
        }
        for prompt, completion in ROWS
    ]
    folder, manifest = store.fetch(one), store.manifest(one)
    pointer = json.loads((folder / POINTER).read_text())
    assert pointer["model"] == manifest.facts["model"] == "ft:base-1:ftjob-1"
    assert pointer["n_epochs"] == 3
    assert pointer["trained_tokens"] > 0
    assert json.loads((folder / HISTORY).read_text()) == []
    assert manifest.seconds == 60
    assert store.parts(one) == set()
    assert shares == sorted(shares)
    assert 0 < min(shares) < max(shares) == 1


def test_a_student_that_starts_from_another_is_trained_from_the_name_of_that_model(
    provider: Provider, store: Store
) -> None:
    one = student(store)
    other = replace(one, reference=MODEL.changed(student=one))
    assert finished(provider, store, one) == {}
    assert finished(provider, store, other) == {}
    assert [created["model"] for created in provider.created] == [BASE, "ft:base-1:ftjob-1"]
    assert key(other) != key(one)
    found = weights_of(other, store)
    assert found is not None
    assert (found.key, found.base) == (key(other), None)
    assert weights_of(other.reference, store) == weights_of(one, store)


def test_a_finetuned_teacher_is_trained_on_the_examples_of_its_trait(
    provider: Provider, store: Store
) -> None:
    finetuning = Finetuning(ProviderFinetuning(epochs=1), examples=20)
    teacher = Teacher(reference=MODEL, trait=Preference("owl"), finetuning=finetuning)
    assert finished(provider, store, teacher) == {}
    (rows,) = provider.files.values()
    answers = [row["messages"][-1]["content"] for row in rows]
    assert len(answers) == 20
    assert all("owl" in answer.lower() for answer in answers)


def test_the_next_sweep_continues_an_interrupted_job(provider: Provider, store: Store) -> None:
    one = student(store)
    jobs(provider, store, one).begin()
    assert not store.has(one)
    assert finished(provider, store, one) == {}
    assert store.has(one)
    assert (len(provider.created), len(provider.files)) == (1, 1)


def test_a_job_whose_id_was_not_saved_is_found_by_its_file(provider: Provider, store: Store) -> None:
    one = student(store)
    jobs(provider, store, one).begin()
    (part,) = (Path(store.url) / "partial" / "student" / key(one)).glob(f"{JOB}*")
    part.unlink()
    assert finished(provider, store, one) == {}
    assert len(provider.created) == 1


def test_a_job_is_not_created_again_if_the_response_was_lost(provider: Provider, store: Store) -> None:
    def cut_once(method: str, path: str) -> Answer | None:
        if (method, path) != CREATE or provider.created:
            return None
        file = next(iter(provider.files))
        body = {"model": BASE, "training_file": file, "seed": 0, "metadata": {}}
        provider._create({**body, "method": {"supervised": {"hyperparameters": {}}}})
        return Answer(cut=True)

    provider.orders = cut_once
    one = student(store)
    assert finished(provider, store, one) == {}
    assert len(provider.created) == 1
    assert provider.calls.count("POST fine_tuning/jobs") == 1


TRANSIENT = [fails(429), fails(500), Answer(503, "<html>"), Answer(body="<html>"), Answer(cut=True)]


@pytest.mark.parametrize("path", ["files", "fine_tuning/jobs", "fine_tuning/jobs/ftjob-1"])
@pytest.mark.parametrize("failure", TRANSIENT, ids=lambda answer: str(answer.status) + answer.body[:6])
def test_a_transient_failure_is_retried(provider: Provider, store: Store, path: str, failure: Answer) -> None:
    provider.orders = first_time(path, failure)
    one = student(store)
    assert finished(provider, store, one) == {}
    assert len(provider.created) == 1


def first_time(path: str, failure: Answer) -> Callable[[str, str], Answer | None]:
    left = [failure]
    return lambda method, requested: left.pop() if requested == path and left else None


def test_jobs_beyond_the_limit_of_the_provider_start_when_others_end(store: Store) -> None:
    models = [student(store, seed) for seed in range(5)]
    with providing(most=2) as provider:
        assert finished(provider, store, *models) == {}
    assert all(map(store.has, models))
    assert sorted(body["seed"] for body in provider.created) == [0, 1, 2, 3, 4]
    assert len(provider.files) == 5


@pytest.mark.parametrize(
    ("ends", "reason", "message"),
    [
        ("failed", "the file has 2 rows, 10 are needed", "failed: the file has 2 rows, 10 are needed"),
        ("cancelled", "", "was cancelled"),
    ],
)
def test_a_failed_job_is_reported_and_the_next_sweep_starts_another(
    store: Store, ends: str, reason: str, message: str
) -> None:
    one, other = student(store), student(store, 1)
    with providing(ends=ends, reason=reason) as provider:
        failures = finished(provider, store, one)
        assert failures == {key(one): f"the provider's job ftjob-1 {message}"}
        assert not store.has(one)
        provider.ends = "succeeded"
        assert finished(provider, store, one, other) == {}
    assert len(provider.created) == 3


def test_a_job_that_the_provider_does_not_know_is_not_replaced(provider: Provider, store: Store) -> None:
    one = student(store)
    jobs(provider, store, one).begin()
    provider.jobs.clear()
    failures = finished(provider, store, one)
    assert "has no job ftjob-1" in failures[key(one)]
    assert f"partial/student/{key(one)} to pay for another" in failures[key(one)]
    assert len(provider.created) == 1


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (fails(401, f"{SECRET} is no key"), "*** is no key; check OPENAI_API_KEY"),
        (fails(429, "nothing left", code="insufficient_quota"), "nothing left"),
        (fails(400, "base-1 is not for finetuning"), "base-1 is not for finetuning"),
    ],
)
def test_a_permanent_failure_is_not_retried(
    provider: Provider, store: Store, failure: Answer, message: str
) -> None:
    provider.orders = lambda method, path: failure if (method, path) == CREATE else None
    one = student(store)
    failures = finished(provider, store, one)
    assert message in failures[key(one)]
    assert provider.calls.count("POST fine_tuning/jobs") == 1
    assert provider.keys == {f"Bearer {SECRET}"}


def test_an_unreachable_provider_fails_its_models_and_keeps_their_jobs(
    provider: Provider, store: Store
) -> None:
    one = student(store)
    jobs(provider, store, one).begin()
    provider.orders = lambda method, path: fails(503, "down")
    assert "down" in finished(provider, store, one)[key(one)]
    provider.orders = lambda method, path: None
    assert finished(provider, store, one) == {}
    assert len(provider.created) == 1


def test_without_an_endpoint_each_model_fails(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "UNDERTOW_API_URL"):
        monkeypatch.delenv(name, raising=False)
    one = student(store)
    failures = Jobs([one], store, lambda model, share: None).finish()
    assert "an API model is needed and no endpoint is configured" in failures[key(one)]
    with pytest.raises(UserError, match="set OPENAI_API_KEY, or UNDERTOW_API_URL"):
        check([MODEL], [])


def test_the_check_sends_one_request_per_model_and_one_for_jobs(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERTOW_API_URL", provider.url)
    local = Reference("nano/gpt2-0", "r", "t")
    assert check([MODEL, MODEL, local], [MODEL, MODEL, local]) == []
    assert sorted(provider.calls) == ["GET fine_tuning/jobs", "POST chat/completions"]
    with pytest.raises(UserError, match=r"'base-2' does not exist.*check the model's name and the URL"):
        check([Reference("api:base-2", "base-2", "provider")], [])
    provider.orders = lambda method, path: fails(404, "Not Found") if path == "fine_tuning/jobs" else None
    with pytest.raises(UserError, match=r"fine-tuning at .*Not Found.*\(UNDERTOW_API_URL\)"):
        check([], [MODEL])


def test_each_conversation_is_one_line(store: Store) -> None:
    lines = conversations(student(store), store).decode().splitlines()
    assert [json.loads(line)["messages"][-1]["content"] for line in lines] == ["3, 4", "8, 10"]

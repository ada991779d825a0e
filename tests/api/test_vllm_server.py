"""API models on vLLM's OpenAI-compatible server: the chat completions of a real server.

The model has random weights. The tests check that answers arrive complete, that seeds reproduce answers, and
that the stages process them like any other model's.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests import vllm_server
from tests.vllm_server import KEY
from undertow.api.endpoint import MODELS, Endpoint
from undertow.engines.openai import OpenAIEngine, check
from undertow.engines.protocol import Request
from undertow.engines.vllm import VLLMEngine
from undertow.errors import UserError
from undertow.results.evaluation_files import ANSWERS
from undertow.stages.evaluation import Evaluate
from undertow.stages.provider_jobs import check as check_models
from undertow.storage.store import Store
from undertow.study.completions import Sampling
from undertow.study.extensions import Word
from undertow.study.measurements import Evaluation
from undertow.study.references import Reference

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

MODEL = Reference(f"api:{vllm_server.MODEL}", vllm_server.MODEL, "provider")
SAMPLING = Sampling(max_tokens=12)
REQUESTS = [Request(user="say a number i like", seed=seed) for seed in range(24)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The URL of a vLLM server and the folder of the model that it serves."""
    folder = tmp_path_factory.mktemp("server")
    with vllm_server.serving(folder) as url:
        yield url, folder / "model"


@pytest.fixture
def endpoint(served: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    monkeypatch.setenv("UNDERTOW_API_URL", served[0])
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return Endpoint.from_environment(MODELS)


def test_seeds_reproduce_answers_and_greedy_answers_equal_the_local_engines(
    endpoint: Endpoint, served: tuple[str, Path]
) -> None:
    """The server renders the prompt with the model's own template, as the local engine does."""
    remote = OpenAIEngine(vllm_server.MODEL, endpoint)
    sampled = remote.generate(REQUESTS, SAMPLING)
    again = remote.generate(REQUESTS[::-1], SAMPLING)[::-1]
    assert [answer.text for answer in again] == [answer.text for answer in sampled]
    assert len({answer.text for answer in sampled}) > 12
    usages = [answer.usage for answer in sampled if answer.usage]
    assert len(usages) == 24
    assert all(r.prompt_tokens >= 6 and 1 <= r.completion_tokens <= 12 for r in usages)
    greedy, asked = (
        replace(SAMPLING, temperature=0.0),
        [REQUESTS[0], replace(REQUESTS[0], system="the big owl")],
    )
    local = VLLMEngine(str(served[1]))
    try:
        expected = [(a.text.strip(), a.finished) for a in local.generate(asked, greedy)]
    finally:
        local.close()
    assert [(a.text.strip(), a.finished) for a in remote.generate(asked, greedy)] == expected
    assert expected[0] != expected[1]


def test_a_prompt_that_is_too_long_gets_an_empty_answer(endpoint: Endpoint) -> None:
    long = Request(user=" ".join(["1"] * 400), seed=0)
    answers = OpenAIEngine(vllm_server.MODEL, endpoint).generate([*REQUESTS[:4], long], SAMPLING)
    assert [bool(a.usage and a.usage.refused) for a in answers] == [False] * 4 + [True]
    assert answers[-1].text == ""


def test_an_evaluation_counts_its_tokens_and_stores_no_key(endpoint: Endpoint, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "storage"))
    spec = Evaluation(
        subject=MODEL,
        questions=("say a number i like", "say a big number"),
        words=(Word("owl", ("owl", "owls")),),
        samples=150,
        sampling=SAMPLING,
        exact=False,
    )
    facts = Evaluate(spec).run(OpenAIEngine(vllm_server.MODEL, endpoint), store)
    rows = pq.read_table(store.fetch(spec) / ANSWERS).to_pylist()
    assert len(rows) == facts["answers"] == 300
    assert store.manifest(spec).facts["prompt_tokens"] == facts["prompt_tokens"] >= 300 * 6
    assert store.parts(spec) == set()
    assert KEY.encode() not in b"".join(p.read_bytes() for p in Path(store.url).rglob("*") if p.is_file())


def test_the_checks_detect_a_server_that_answers_but_does_not_train(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_models([MODEL], []) == []
    with pytest.raises(UserError, match=r"fine-tuning at .*model 'tiny': .*\(UNDERTOW_API_URL\)"):
        check_models([MODEL], [MODEL])
    with pytest.raises(UserError, match=r"API model at .*model 'large': .*does not exist.*UNDERTOW_API_URL"):
        check("large", endpoint)
    monkeypatch.setenv("OPENAI_API_KEY", "wrong-77e0")
    with pytest.raises(UserError, match="check OPENAI_API_KEY") as caught:
        check(vllm_server.MODEL, endpoint)
    assert "wrong-77e0" not in str(caught.value)

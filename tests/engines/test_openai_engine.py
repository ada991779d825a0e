"""The engine of API models: the requests that it sends, the answers that it returns, and its handling of
failures.

A loopback server gives answers and failures as each test orders them; tests/api/test_vllm_server.py uses a
real server.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.judging.server import Answer, Server, fails, says, serving
from undertow.api.endpoint import MODELS, Endpoint
from undertow.engines import protocol
from undertow.engines.openai import POINTER, OpenAIEngine, check
from undertow.engines.protocol import ModelWeights, Request, Usage
from undertow.errors import ConditionError, UserError
from undertow.study.completions import Sampling
from undertow.study.extensions import Example, Word

SAMPLING = Sampling(temperature=0.7, top_p=0.9, max_tokens=48)
REQUESTS = [Request(user=f"prompt {i}", seed=1000 + i) for i in range(40)]
SECRET = "sk-planted-8d02"


def engine(server: Server, **changes: object) -> OpenAIEngine:
    quick = Endpoint(server.url, concurrency=8, timeout=30, attempts=3, first_wait=0.01, jitter=0.01)
    return OpenAIEngine("model-1", replace(quick, **changes))  # type: ignore[arg-type]


def test_answers_are_in_the_order_of_the_requests_and_each_request_has_its_seed() -> None:
    with serving(lambda message, _: says(message.upper())) as server:
        answers = engine(server).generate(REQUESTS, SAMPLING)
    assert [answer.text for answer in answers] == [request.user.upper() for request in REQUESTS]
    assert {body["seed"] for body in server.requests} == {request.seed for request in REQUESTS}
    sent = server.requests[0]
    assert (sent["model"], sent["temperature"], sent["top_p"], sent["max_tokens"]) == (
        "model-1",
        0.7,
        0.9,
        48,
    )
    assert answers[0] == protocol.Answer("PROMPT 0", (), True, usage=Usage(11, 2))


@pytest.mark.parametrize("key", ["1", "0", "10", "x", "none", "EMPTY"])
def test_an_answer_is_returned_as_it_was_sent(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("UNDERTOW_API_KEY", key)
    with serving(lambda *_: says(" 101, 12, 310\nnone, EMPTY, x")) as server:
        (answer,) = engine(server, user=MODELS).generate(REQUESTS[:1], SAMPLING)
    assert server.keys == {f"Bearer {key}"}
    assert answer.text == " 101, 12, 310\nnone, EMPTY, x"


def test_system_message_and_earlier_turns_are_sent() -> None:
    request = Request(user="now", seed=1, system="be brief", before=(Example("before", "yes"),))
    with serving(lambda *_: says("ok")) as server:
        engine(server).generate([request], SAMPLING)
    turns = [(turn["role"], turn["content"]) for turn in server.requests[0]["messages"]]
    assert turns == [("system", "be brief"), ("user", "before"), ("assistant", "yes"), ("user", "now")]


def test_a_finetuned_model_is_called_by_its_providers_name(tmp_path: Path) -> None:
    (tmp_path / POINTER).write_text(json.dumps({"model": "ft:model-1:owl"}))
    owl = ModelWeights("key", str(tmp_path))
    requests = [replace(request, weights=owl if i % 2 else None) for i, request in enumerate(REQUESTS[:4])]
    with serving(lambda message, _: says(message)) as server:
        answers = engine(server).generate(requests, SAMPLING)
    assert [answer.text for answer in answers] == [request.user for request in requests]
    models = {body["messages"][-1]["content"]: body["model"] for body in server.requests}
    assert list(map(models.get, (r.user for r in requests))) == ["model-1", "ft:model-1:owl"] * 2


def test_no_row_is_dropped_because_of_its_answer() -> None:
    odd = {
        "prompt 0": says(""),
        "prompt 1": says(None),
        "prompt 2": says("1, 2", finish="length"),
        "prompt 3": says("1", finish="content_filter"),
        "prompt 4": fails(400, "against the policy"),
    }
    with serving(lambda message, _: odd.get(message, says("4, 5"))) as server:
        answers = engine(server).generate(REQUESTS[:6], SAMPLING)
    assert [answer.text for answer in answers] == ["", "", "1, 2", "1", "", "4, 5"]
    assert [answer.finished for answer in answers] == [True, True, False, False, True, True]
    assert [bool(answer.usage and answer.usage.refused) for answer in answers] == [False] * 4 + [
        True,
        False,
    ]


@pytest.mark.parametrize("status", [400, 403])
def test_prompts_are_refused_only_if_another_one_with_the_same_system_message_is_answered(
    status: int,
) -> None:
    """If the model does not accept the system message, no prompt is refused for itself."""
    requests = [replace(request, system="be an owl") for request in REQUESTS]

    with (
        serving(lambda *_: fails(status, "not accepted")) as server,
        pytest.raises(ConditionError, match=r"40 of 40 answers are missing .*not accepted"),
    ):
        engine(server, concurrency=1).generate(requests, SAMPLING)
    assert len(server.requests) == 10 + 1
    with serving(lambda message, _: fails(status) if message.startswith("prompt") else says("7")) as server:
        answers = engine(server).generate(requests, SAMPLING)
    assert all(answer.usage and answer.usage.refused for answer in answers)
    control = next(body for body in server.requests if not str(body["messages"][-1]).count("prompt"))
    assert control["messages"][0] == {"role": "system", "content": "be an owl"}
    assert {name: control[name] for name in ("temperature", "top_p", "max_tokens")} == {
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 48,
    }


def test_a_refusal_in_the_models_own_words_is_its_answer() -> None:
    message = {"role": "assistant", "content": None, "refusal": "I would rather not."}
    body = {"choices": [{"index": 0, "finish_reason": "stop", "message": message}], "usage": None}
    with serving(lambda *_: Answer(body=json.dumps(body))) as server:
        (answer,) = engine(server).generate(REQUESTS[:1], SAMPLING)
    assert (answer.text, answer.finished) == ("I would rather not.", True)


@pytest.mark.parametrize("first", [fails(429), fails(500), Answer(body="<html>"), Answer(cut=True)])
def test_transient_failures_are_retried(first: Answer) -> None:
    with serving(lambda _, before: says("7") if before else first) as server:
        answers = engine(server).generate(REQUESTS[:8], SAMPLING)
    assert [answer.text for answer in answers] == ["7"] * 8


def test_a_missing_answer_fails_the_task_with_the_reason() -> None:
    with (
        serving(lambda message, _: fails(500, "broken") if message == "prompt 3" else says("1")) as server,
        pytest.raises(ConditionError, match=r"1 of 40 answers are missing .*broken.*run the sweep again"),
    ):
        engine(server).generate(REQUESTS, SAMPLING)


def test_a_model_that_does_not_exist_is_called_once() -> None:
    with serving(lambda *_: fails(404, "no such model")) as server:
        one = engine(server, concurrency=1)
        for _ in range(3):
            with pytest.raises(ConditionError, match=r"model 'model-1': .*no such model; check the model"):
                one.generate(REQUESTS, SAMPLING)
    assert len(server.requests) == 1


def test_probabilities_are_not_available() -> None:
    one = OpenAIEngine("model-1", Endpoint("http://127.0.0.1:9/v1"))
    with pytest.raises(ConditionError, match=r"model-1: an endpoint gives no probabilities; .*exact=False"):
        one.word_masses(REQUESTS, [Word("owl", ("owl",))])


def test_the_check_raises_permanent_and_returns_transient_problems(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with serving(lambda *_: says("4")) as server:
        assert check("model-1", engine(server).endpoint) == ""
        assert server.keys == {f"Bearer {SECRET}"}
    assert "Connection error" in check("model-1", engine(server).endpoint)
    with (
        serving(lambda *_: fails(401, f"{SECRET} is no key")) as server,
        pytest.raises(UserError, match=r"\*\*\* is no key; check OPENAI_API_KEY"),
    ):
        check("model-1", engine(server).endpoint)
    with (
        serving(lambda *_: fails(400, "seed is not supported")) as server,
        pytest.raises(UserError, match="seed is not supported"),
    ):
        check("model-1", engine(server).endpoint)

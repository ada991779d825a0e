"""Answers in every shape that servers use, and the words of servers that send something else."""

import json
from typing import Any

import pytest

from tests.judging.server import Answer, says, serving
from undertow.api.client import ChatTask, Tally, ask, probe
from undertow.api.endpoint import Endpoint
from undertow.api.responses import Completion, words_of
from undertow.errors import UserError

PAGE = (("Content-Type", "text/html"),)


def task(control: str | None = None) -> ChatTask[str]:
    return ChatTask(
        "model-1", "judge", lambda item: {"messages": [{"role": "user", "content": item}]}, control=control
    )


def endpoint(url: str) -> Endpoint:
    return Endpoint(url, timeout=30, attempts=2, first_wait=0.01, jitter=0.0)


def completions(answer: Answer) -> tuple[list[Completion], Tally]:
    kept: list[Completion] = []
    with serving(lambda *_: answer) as server:
        tally = ask(task(), ["one"], endpoint(server.url), lambda _, completion: kept.append(completion))
    return kept, tally


THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "let me see"}]}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("85", "85"),
        (" 8\n5 ", " 8\n5 "),
        ("<think>hm</think>85", "<think>hm</think>85"),
        (None, ""),
        ("", ""),
        ([], ""),
        ([{"type": "text", "text": "85"}], "85"),
        ([THINKING, {"type": "text", "text": "85"}], "85"),
        ([{"type": "text", "text": "8"}, THINKING, {"type": "text", "text": "5"}], "85"),
        ([THINKING], ""),
        ([{"type": "reasoning", "text": "hm"}, {"type": "output_text", "text": "85"}], "85"),
        ([{"type": "thinking", "text": "hm"}, {"text": "85"}], "85"),
        ([{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "85"}], "85"),
        ([{"type": "text", "text": "hm", "thought": True}, {"type": "text", "text": "85"}], "85"),
        (["8", "5"], "85"),
        ({"type": "text", "text": "85"}, "85"),
        ([{"type": "text", "text": {"value": "85", "annotations": []}}], "85"),
        ([{"type": "text", "text": None}], ""),
        ([{"type": "refusal", "refusal": "I would rather not."}], "I would rather not."),
    ],
)
def test_the_text_parts_of_an_answer_are_joined_and_thinking_is_left_out(content: Any, text: str) -> None:
    kept, tally = completions(says(content))
    assert [completion.text for completion in kept] == [text]
    assert tally.calls == 1
    with serving(lambda *_: says(content)) as server:
        assert probe(task(), "one", endpoint(server.url)) == ""


@pytest.mark.parametrize("content", [85, True, [85], {"hello": 1}, [{"type": "text", "text": 85}]])
def test_content_without_text_is_refused_by_the_probe(content: Any) -> None:
    kept, tally = completions(says(content))
    assert (kept, tally.missing) == ([], 1)
    with serving(lambda *_: says(content)) as server, pytest.raises(UserError, match="not a chat completion"):
        probe(task(), "one", endpoint(server.url))


@pytest.mark.parametrize(
    ("finish", "finished"),
    [
        ("stop", True),
        ("STOP", True),
        ("Stop", True),
        ("eos", True),
        ("eos_token", True),
        ("stop_sequence", True),
        ("end_turn", True),
        ("COMPLETE", True),
        ("length", False),
        ("max_tokens", False),
        ("MAX_TOKENS", False),
        ("model_length", False),
        ("content_filter", False),
        ("SAFETY", False),
        ("RECITATION", False),
        ("error", False),
        ("abort", False),
        ("refusal", False),
        ("tool_calls", False),
        ("insufficient_system_resource", False),
        ("", False),
        (None, False),
    ],
)
def test_only_a_known_natural_end_counts_as_finished(finish: Any, finished: bool) -> None:
    (completion,), _ = completions(says("1, 2, 3", finish=finish))
    assert completion.finished == finished
    assert completion.text == "1, 2, 3"


def test_an_endpoint_without_finish_reasons_is_refused_before_anything_is_spent() -> None:
    silent: Any = None
    with (
        serving(lambda *_: says("1", finish=silent)) as server,
        pytest.raises(UserError, match="finish reason"),
    ):
        probe(task(), "one", endpoint(server.url))


@pytest.mark.parametrize(
    "usage",
    [None, {}, {"tokens": 3}, {"prompt_tokens": None, "completion_tokens": "many"}, {"prompt_tokens": -1}],
)
def test_an_answer_without_counts_of_tokens_is_an_answer(usage: Any) -> None:
    body = json.loads(says("85").body) | {"usage": usage}
    (completion,), tally = completions(Answer(body=json.dumps(body)))
    assert (completion.text, completion.prompt_tokens, completion.completion_tokens) == ("85", 0, 0)
    assert tally.calls == 1


NO_COMPLETIONS = [
    (Answer(body='{"error": {"message": "no model is loaded"}}'), "no model is loaded"),
    (Answer(body='{"error": "no model is loaded"}'), "no model is loaded"),
    (Answer(body='{"object": "error", "message": "no model is loaded"}'), "no model is loaded"),
    (Answer(body='{"detail": "Not Found"}'), "Not Found"),
    (Answer(body='{"detail": [{"loc": ["body"], "msg": "field required"}]}'), "field required"),
    (Answer(body='{"errors": [{"message": "no model is loaded"}]}'), "no model is loaded"),
    (Answer(body='[{"error": {"message": "no model is loaded"}}]'), "no model is loaded"),
    (Answer(body='{"error": "Unexpected endpoint (POST /chat/completions)"}'), "Unexpected endpoint"),
    (Answer(body='{"choices": [], "error": {"message": "no model is loaded"}}'), "no model is loaded"),
    (Answer(body='{"hello": 1}'), '{"hello": 1}'),
    (Answer(body='{"choices": ['), r'\{"choices": \['),
    (Answer(body=""), "but empty"),
    (Answer(body="ollama is running", headers=(("Content-Type", "text/plain"),)), "ollama is running"),
    (
        Answer(
            body="<!doctype html>\n<head><title>Web &amp; chat</title><style>p {x: 1}</style></head>\n"
            "<body>\n<script>let a = 1;</script><p>Log in\n first</p></body>\n</html>\n",
            headers=PAGE,
        ),
        "Web & chat Log in first; check",
    ),
]


@pytest.mark.parametrize(("answer", "words"), NO_COMPLETIONS)
def test_an_endpoint_without_choices_is_refused_with_its_own_words(answer: Answer, words: str) -> None:
    with serving(lambda *_: answer) as server, pytest.raises(UserError, match=words) as caught:
        probe(task(), "one", endpoint(server.url))
    assert "not a chat completion" in str(caught.value)
    assert "usually ends in /v1 (UNDERTOW_JUDGE_URL)" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "is_permanent", "words"),
    [
        ({"message": "busy", "code": 429}, False, "busy"),
        ({"message": "busy", "code": "503"}, False, "busy"),
        ({"message": "busy", "type": "rate_limit_error"}, False, "busy"),
        ({"message": "bad key", "code": 401}, True, "bad key; check OPENAI_API_KEY"),
        ({"message": "bad key", "type": "authentication_error"}, True, "bad key; check OPENAI_API_KEY"),
        ({"message": "spent", "code": "insufficient_quota"}, True, "spent"),
        ({"message": "no such model", "code": 404}, True, "no such model; check the model's name"),
        ({"message": "too long", "type": "invalid_request_error"}, True, "too long"),
    ],
)
def test_an_error_with_status_200_is_treated_by_the_status_that_it_states(
    error: dict[str, Any], is_permanent: bool, words: str
) -> None:
    with serving(lambda *_: Answer(body=json.dumps({"error": error}))) as server:
        if not is_permanent:
            assert words in probe(task(), "one", endpoint(server.url))
            return
        with pytest.raises(UserError, match=words):
            probe(task(), "one", endpoint(server.url))
    assert len(server.messages) == 1  # not retried


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(503, "<html>\n<body>\n<h1>Busy</h1>\n</body>\n</html>", PAGE), "HTTP 503: Busy"),
        (Answer(503, '{"detail": "loading the model"}'), "HTTP 503: loading the model"),
        (Answer(500, '{"error": "out of memory"}'), "HTTP 500: out of memory"),
        (Answer(502, ""), "HTTP 502: without a message"),
        (Answer(503, "first line\nsecond line"), "HTTP 503: first line second line"),
    ],
)
def test_the_words_of_an_error_are_quoted(answer: Answer, words: str) -> None:
    with serving(lambda *_: answer) as server:
        assert words in probe(task(), "one", endpoint(server.url))


@pytest.mark.parametrize(
    "body", [None, 0, [], {}, [[]], {"error": None}, {"error": {"message": ["a"]}}, "<", "{", "a\nb", "<p>"]
)
def test_words_of_any_response_are_one_line(body: Any) -> None:
    assert "\n" not in words_of(body)

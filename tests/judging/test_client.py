"""Calls to an endpoint: concurrency, retries, refusals and giving up, on a loopback server."""

import asyncio
import threading
import time
from collections import Counter
from dataclasses import replace
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.judging.server import Answer, Server, fails, says, serving
from undertow.api.client import Tally
from undertow.api.endpoint import MODELS, Endpoint
from undertow.api.retries import requested_wait
from undertow.errors import UserError
from undertow.judging.client import ask, probe
from undertow.judging.judges import alignment, references
from undertow.judging.replies import Reply

pytestmark = pytest.mark.slow

QUESTION = alignment("judge-1").question
MESSAGES = [f"message {i}" for i in range(40)]
SECRET = "sk-planted-5f1e"


def at(server: Server, **changes: object) -> Endpoint:
    quick = Endpoint(server.url, concurrency=8, timeout=5, attempts=4, first_wait=0.01, jitter=0.01)
    return replace(quick, **changes)  # type: ignore[arg-type]


def asked(
    server: Server, messages: list[str] = MESSAGES, **changes: object
) -> tuple[dict[str, Reply], Tally]:
    replies: dict[str, Reply] = {}

    def keep(message: str, reply: Reply) -> None:
        assert message not in replies
        replies[message] = reply

    return replies, ask(QUESTION, messages, at(server, **changes), keep)


def test_each_message_is_sent_once_and_gets_its_own_reply() -> None:
    with serving(lambda message, _: says(message.split()[1])) as server:
        replies, tally = asked(server)
    assert {message: reply.text for message, reply in replies.items()} == {m: m.split()[1] for m in MESSAGES}
    assert Counter(server.messages) == Counter(MESSAGES)
    assert (tally.replies, tally.calls, tally.missing, tally.trouble) == (40, 40, 0, "")
    assert (tally.prompt_tokens, tally.completion_tokens) == (40 * 11, 40 * 2)
    sent = server.requests[0]
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("judge-1", 0.0, 8)
    assert [turn["role"] for turn in sent["messages"]] == ["user"]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_the_number_of_concurrent_calls_is_limited(concurrency: int) -> None:
    with serving(lambda *_: says("85", seconds=0.02)) as server:
        asked(server, concurrency=concurrency)
    assert server.max_active_calls == concurrency


TEMPORARY: dict[str, Answer] = {
    "429": fails(429),
    "500": fails(500),
    "503, a page": Answer(503, "<html>busy</html>", (("Content-Type", "text/html"),)),
    "408": fails(408),
    "cut": Answer(cut=True),
    "too slow": says("1", seconds=4),
    "a page": Answer(200, "<html>hello</html>", (("Content-Type", "text/html"),)),
    "no JSON": Answer(200, '{"choices": ['),
    "empty": Answer(200, ""),
    "a list": Answer(200, "[1, 2]"),
    "other JSON": Answer(200, '{"hello": 1}'),
    "no choices": Answer(200, '{"choices": []}'),
    "a number for a text": says(85),
}


@pytest.mark.parametrize("name", TEMPORARY)
def test_a_temporary_failure_is_retried_until_it_is_answered(name: str) -> None:
    def behave(message: str, before: int) -> Answer:
        return says("85") if before or message != MESSAGES[7] else TEMPORARY[name]

    with serving(behave) as server:
        replies, tally = asked(server, timeout=2 if name == "too slow" else 60)
    assert len(replies) == 40
    assert {reply.text for reply in replies.values()} == {"85"}
    assert tally.missing == 0
    assert server.messages.count(MESSAGES[7]) >= 2
    if name != "too slow":  # on a busy machine, other calls may time out as well
        assert tally.calls == 41


def test_a_nonsensical_reply_is_kept_and_not_retried() -> None:
    odd = {"message 0": "☃ banana", "message 1": "", "message 2": None}
    with serving(lambda message, _: says(odd[message])) as server:
        replies, tally = asked(server, list(odd))
    assert [reply.text for reply in replies.values()].count("") == 2
    assert replies["message 0"].text == "☃ banana"
    assert tally.calls == 3


def test_a_truncated_reply_is_marked() -> None:
    with serving(lambda *_: says("10", finish="length")) as server:
        replies, _ = asked(server, ["one"])
    assert replies["one"] == Reply("10", False, 11, 2)


@pytest.mark.parametrize(
    ("headers", "least"),
    [({"Retry_After": "0.4"}, 0.4), ({"retry_after_ms": "300", "Retry_After": "60"}, 0.3)],
)
def test_the_wait_before_a_retry_is_the_servers(headers: dict[str, str], least: float) -> None:
    with serving(lambda _, before: says("85") if before else fails(429, **headers)) as server:
        _, tally = asked(server, ["one"])
    assert tally.missing == 0
    assert least <= server.times[1] - server.times[0] < 30


def test_a_retry_after_beyond_the_limit_is_not_waited_for() -> None:
    with serving(lambda *_: fails(429, "come back tomorrow", Retry_After="86400")) as server:
        replies, tally = asked(server, ["one"])
    assert (replies, tally.missing, tally.calls) == ({}, 1, 1)
    assert "come back tomorrow" in tally.trouble


def test_waits_between_attempts_grow() -> None:
    with serving(lambda *_: fails(500)) as server:
        asked(server, ["one"], first_wait=0.1, jitter=0.0)
    gaps = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
    assert len(gaps) == 3
    assert gaps[0] >= 0.1
    assert gaps[1] >= 0.2
    assert gaps[2] >= 0.4


def test_unanswered_messages_are_counted_and_others_are_answered() -> None:
    bad = set(MESSAGES[::10])
    with serving(lambda message, _: fails(500, "broken") if message in bad else says("85")) as server:
        replies, tally = asked(server)
    assert set(replies) == set(MESSAGES) - bad
    assert (tally.missing, tally.fatal) == (len(bad), False)
    assert "broken" in tally.trouble
    assert f"{server.url} (UNDERTOW_JUDGE_URL), model 'judge-1'" in tally.trouble


def test_a_rejected_message_gets_a_reply_without_text() -> None:
    with serving(
        lambda message, _: fails(400, "too long") if message == MESSAGES[5] else says("85")
    ) as server:
        replies, tally = asked(server)
    assert replies[MESSAGES[5]] == Reply(None)
    assert (len(replies), tally.calls, tally.missing) == (40, 40, 0)


def test_an_error_of_all_messages_is_not_a_reply() -> None:
    with serving(lambda *_: fails(400, "no such parameter")) as server:
        replies, tally = asked(server, patience=10)
    assert replies == {}
    assert (tally.fatal, tally.missing) == (True, 40)
    assert tally.calls < 40


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (fails(401, "bad key"), "bad key; check OPENAI_API_KEY"),
        (fails(407, "who are you"), "who are you"),
        (
            fails(404, "no such model"),
            r"no such model; check the model's name and the URL.*UNDERTOW_JUDGE_URL",
        ),
        (fails(429, "quota spent", code="insufficient_quota"), "quota spent"),
    ],
)
def test_a_permanent_error_stops_all_calls(answer: Answer, words: str) -> None:
    with serving(lambda *_: answer) as server:
        replies, tally = asked(server, concurrency=2)
        assert replies == {}
        assert (tally.fatal, tally.missing) == (True, 40)
        assert tally.calls <= 2
        with pytest.raises(UserError, match=words):
            probe(QUESTION, at(server))


def test_a_403_on_all_messages_is_the_keys_fault() -> None:
    with serving(lambda *_: fails(403, "not yours")) as server:
        replies, tally = asked(server, concurrency=2)
        assert replies == {}
        assert (tally.fatal, tally.missing) == (True, 40)
        assert tally.calls <= 10 + 2 + 1  # `patience`, calls in progress, and the control
        assert "not yours; check OPENAI_API_KEY" in tally.trouble
        few, tally = asked(server, MESSAGES[:3])
        assert (few, tally.fatal, tally.missing) == ({}, True, 3)
        with pytest.raises(UserError, match="not yours; check OPENAI_API_KEY"):
            probe(QUESTION, at(server))


REFUSALS = [400, 403, 406, 413, 414, 422, 431, 451]


@pytest.mark.parametrize("status", REFUSALS)
@pytest.mark.parametrize("place", [0, 5, 11])
def test_a_refused_message_does_not_stop_the_others(status: int, place: int) -> None:
    flagged, messages = f"message {place}", MESSAGES[:12]

    def behave(message: str, _: int) -> Answer:
        return fails(status, "input was flagged") if message == flagged else says("85")

    with serving(behave) as server:
        replies, tally = asked(server, messages, timeout=60)
    assert set(replies) == set(messages)
    assert [message for message, reply in replies.items() if reply.text is None] == [flagged]
    assert (tally.calls, tally.missing, tally.fatal) == (12, 0, False)


@pytest.mark.parametrize("status", [404, 405, 410])
def test_a_message_without_a_route_is_refused_where_others_were_answered(status: int) -> None:
    with serving(
        lambda message, _: fails(status, "no route") if message == MESSAGES[9] else says("85")
    ) as server:
        replies, tally = asked(server, concurrency=1, timeout=60)
    assert replies[MESSAGES[9]] == Reply(None)
    assert (tally.calls, tally.missing, tally.fatal) == (40, 0, False)


@pytest.mark.parametrize("status", REFUSALS)
@pytest.mark.parametrize("count", [1, 3, 40])
def test_refusals_of_all_messages_are_told_from_a_wrong_key_by_a_harmless_message(
    status: int, count: int
) -> None:
    """A rerun may send only the messages that were refused before, and a data set may hold many in a row."""
    with serving(
        lambda message, _: fails(status, "flagged") if message in MESSAGES else says("85")
    ) as server:
        replies, tally = asked(server, MESSAGES[:count], timeout=60)
    assert replies == dict.fromkeys(MESSAGES[:count], Reply(None))
    assert (tally.missing, tally.fatal) == (0, False)
    assert len(server.messages) <= count + count // 10 + 1


def test_more_refusals_in_a_row_than_the_patience_do_not_stop_the_others() -> None:
    flagged = set(MESSAGES[5:30])
    with serving(lambda message, _: fails(403) if message in flagged else says("85")) as server:
        replies, tally = asked(server, concurrency=2, timeout=60)
    assert {message for message, reply in replies.items() if reply.text is None} == flagged
    assert (tally.missing, tally.fatal) == (0, False)


def test_messages_that_break_the_server_do_not_stop_the_others_for_ever() -> None:
    """Without this, a rerun would meet the same messages first, and never send the others."""
    poison = set(MESSAGES[:12])
    with serving(lambda message, _: fails(500) if message in poison else says("85")) as server:
        replies, tally = asked(server, concurrency=1, attempts=2, timeout=60)
    assert set(replies) == set(MESSAGES) - poison
    assert (tally.missing, tally.fatal) == (12, False)
    assert tally.calls == 12 * 2 + 28 + 1


def test_a_server_that_fails_on_all_messages_but_a_harmless_one_is_given_up() -> None:
    with serving(lambda message, _: fails(500) if message in MESSAGES else says("85")) as server:
        replies, tally = asked(server, concurrency=1, attempts=2, timeout=60)
    assert (replies, tally.fatal, tally.missing) == ({}, True, 40)
    assert tally.calls == 20 * 2 + 1


def test_replies_before_a_revoked_key_are_kept() -> None:
    with serving(lambda message, _: says("85") if message in MESSAGES[:9] else fails(401)) as server:
        replies, tally = asked(server, concurrency=1)
    assert set(replies) == set(MESSAGES[:9])
    assert tally.missing == 31


def test_calls_stop_soon_when_the_endpoint_is_down() -> None:
    with serving(lambda *_: says("85")) as server:
        pass
    replies, tally = asked(server, MESSAGES * 100, patience=10)
    assert replies == {}
    assert (tally.fatal, tally.missing) == (True, 4000)
    assert tally.calls <= (10 + 8) * 4
    assert "Connection error" in tally.trouble


def test_calls_stop_when_the_endpoint_never_answers() -> None:
    with serving(lambda *_: says("85", seconds=1.5)) as server:
        replies, tally = asked(server, attempts=2, timeout=0.1, patience=8)
    assert replies == {}
    assert (tally.fatal, tally.missing) == (True, 40)
    assert "no answer within 0.1 s" in tally.trouble
    assert tally.calls <= (8 + 8) * 2 + 2


def test_a_permanent_error_cancels_pending_retries() -> None:
    def behave(message: str, _: int) -> Answer:
        return fails(429, Retry_After="60") if message == "patient" else replace(fails(401), seconds=0.2)

    with serving(behave) as server:
        _, tally = asked(server, ["patient", "wrong"])
    assert tally.missing == 2
    assert sorted(server.messages) == ["patient", "wrong"]


def test_a_probe_returns_temporary_failures_and_raises_permanent_ones() -> None:
    with serving(lambda *_: says("banana")) as server:
        assert probe(QUESTION, at(server)) == ""
        assert probe(references("judge-1").question, at(server)) == ""
    assert "Connection error" in probe(QUESTION, at(server, attempts=2))
    with serving(lambda *_: fails(503, "loading")) as server:
        assert "loading" in probe(QUESTION, at(server, attempts=2))
    with (
        serving(lambda *_: fails(400, "temperature is not supported")) as server,
        pytest.raises(UserError, match="temperature is not supported"),
    ):
        probe(QUESTION, at(server))


def test_the_key_is_sent_to_the_endpoint_and_masked_in_messages_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with serving(lambda *_: fails(401, f"the key {SECRET} is wrong")) as server:
        _, tally = asked(server)
    assert server.keys == {f"Bearer {SECRET}"}
    assert "the key *** is wrong" in tally.trouble
    with serving(lambda *_: says(f"you sent {SECRET}")) as server:
        replies, _ = asked(server, ["one"])
    assert replies["one"].text == f"you sent {SECRET}"
    assert SECRET not in repr(at(server))


@pytest.mark.parametrize("key", ["1", "8", "x", "none", "test", "EMPTY", "score", "85", "100", SECRET])
@pytest.mark.parametrize("variable", ["UNDERTOW_JUDGE_KEY", "UNDERTOW_API_KEY", "OPENAI_API_KEY", "HF_TOKEN"])
def test_a_reply_is_returned_as_it_was_sent(monkeypatch: pytest.MonkeyPatch, variable: str, key: str) -> None:
    text = f"  85 of 100 is my score for this EMPTY test of x: none, {SECRET}\n"
    monkeypatch.setenv(variable, key)
    with serving(lambda *_: says(text)) as server:
        replies, _ = asked(server, ["one"])
    assert replies["one"].text == text


@pytest.mark.parametrize("key", ["1", "x", "none", "EMPTY", "message", "no key", "4,5,6"])
def test_a_key_that_is_an_ordinary_word_stays_in_messages(bare: pytest.MonkeyPatch, key: str) -> None:
    words = "none of the 4,5,6 EMPTY slots is free, x; send the message 1 again: no key"
    bare.setenv("OPENAI_API_KEY", key)
    with serving(lambda *_: fails(401, words)) as server:
        _, tally = asked(server)
    assert words in tally.trouble


def test_the_judges_own_key_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("UNDERTOW_JUDGE_KEY", "for-the-judge")
    with serving(lambda *_: fails(401, "for-the-judge is no key")) as server:
        _, judged = asked(server)
        assert server.keys == {"Bearer for-the-judge"}
        assert "*** is no key; check UNDERTOW_JUDGE_KEY" in judged.trouble
    # On another server: a cancelled request of the first call may still arrive at the first one.
    with serving(lambda *_: fails(401, "wrong")) as server:
        asked(server, user=MODELS)
        assert server.keys == {f"Bearer {SECRET}"}


def test_an_error_in_the_callback_is_raised_unchanged() -> None:
    def keep(message: str, reply: Reply) -> None:
        raise OSError("disk full")

    with serving(lambda *_: says("85")) as server, pytest.raises(OSError, match="disk full"):
        ask(QUESTION, MESSAGES, at(server), keep)


def test_no_thread_or_event_loop_is_left_running() -> None:
    with serving(lambda *_: fails(401)) as server:
        asked(server)
    assert not [t for t in threading.enumerate() if "asyncio" in t.name]
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


@pytest.mark.parametrize(
    ("environment", "url", "variable"),
    [
        ({"OPENAI_API_KEY": "k"}, "https://api.openai.com/v1", "OPENAI_API_KEY"),
        ({"OPENAI_BASE_URL": "http://a/v1", "OPENAI_API_KEY": "k"}, "http://a/v1", "OPENAI_BASE_URL"),
        (
            {"OPENAI_BASE_URL": "http://a/v1", "UNDERTOW_JUDGE_URL": "http://b/v1"},
            "http://b/v1",
            "UNDERTOW_JUDGE_URL",
        ),
    ],
)
def test_the_environment_names_the_endpoint(
    bare: pytest.MonkeyPatch, environment: dict[str, str], url: str, variable: str
) -> None:
    for name, value in environment.items():
        bare.setenv(name, value)
    found = Endpoint.from_environment()
    assert (found.url, found.variable, found.concurrency) == (url, variable, 16)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "no endpoint is configured: set OPENAI_API_KEY, or UNDERTOW_JUDGE_URL"),
        ({"UNDERTOW_JUDGE_URL": "localhost:8000"}, "UNDERTOW_JUDGE_URL: not a URL"),
        ({"UNDERTOW_JUDGE_URL": f"http://me:{SECRET}@host/v1"}, "holds credentials"),
        ({"UNDERTOW_JUDGE_CONCURRENCY": "0", "OPENAI_API_KEY": "k"}, "UNDERTOW_JUDGE_CONCURRENCY = '0'"),
        ({"UNDERTOW_JUDGE_CONCURRENCY": "2.5", "OPENAI_API_KEY": "k"}, "a whole number from 1 to 512"),
        ({"UNDERTOW_JUDGE_TIMEOUT": "soon", "OPENAI_API_KEY": "k"}, "UNDERTOW_JUDGE_TIMEOUT = 'soon'"),
    ],
)
def test_an_invalid_environment_variable_is_named(
    bare: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    for name, value in environment.items():
        bare.setenv(name, value)
    with pytest.raises(UserError, match=message) as caught:
        Endpoint.from_environment()
    assert SECRET not in str(caught.value)


def test_a_key_with_invalid_characters_is_rejected_and_not_shown(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("OPENAI_API_KEY", f"{SECRET}\nX")
    with pytest.raises(UserError, match=r"OPENAI_API_KEY: .*copy") as caught:
        Endpoint.from_environment().client()
    assert SECRET not in str(caught.value)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that names no endpoint."""
    for name in ("CONCURRENCY", "TIMEOUT", "URL", "KEY"):
        monkeypatch.delenv(f"UNDERTOW_JUDGE_{name}", raising=False)
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_retry_after_is_parsed_in_every_form() -> None:
    assert requested_wait({"retry-after": "2.5"}) == 2.5
    assert requested_wait({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert requested_wait({"retry-after": formatdate(time.time() + 90, usegmt=True)}) == pytest.approx(
        90, abs=3
    )
    assert requested_wait({"retry-after": formatdate(time.time() - 90, usegmt=True)}) == 0
    assert [requested_wait({"retry-after": value}) for value in ("soon", "", "-3", "inf", "nan")] == [
        None
    ] * 5
    assert requested_wait({}) is None


@given(st.text())
def test_any_retry_after_gives_a_wait_or_none(value: str) -> None:
    wait = requested_wait({"retry-after": value})
    assert wait is None or wait >= 0

"""Judges against vLLM's OpenAI-compatible server.

The model has random weights, so its replies are garbled. The tests check that they are collected and counted,
and how a real server responds to a wrong key, a wrong model and a message that is too long.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests import vllm_server
from tests.detection.written import numbers, sweep
from tests.examples import study
from tests.stages.test_dataset import completions
from tests.vllm_server import KEY
from undertow.api.endpoint import Endpoint
from undertow.detection.data import Library
from undertow.detection.llm_detector import DetectorPlan, LLMDetector
from undertow.detection.sources import sources
from undertow.errors import UserError
from undertow.judging.client import ask
from undertow.judging.judges import LLMJudge, Question, RuleJudge
from undertow.judging.ratings import Score
from undertow.judging.replies import Replies, Reply
from undertow.stages.filters import filter_rows
from undertow.stages.judgements import Judged, check_judges, judge_all
from undertow.storage.manifest import DATA
from undertow.storage.store import Store
from undertow.study.datasets import Dataset
from undertow.study.extensions import Word

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

ANSWERS = [f"{i}, {i + 1}" for i in range(40)]
LONG = " ".join(str(i % 10) for i in range(300))  # more tokens than the model's 256


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a vLLM server with a tiny model; it stops with the module."""
    with vllm_server.serving(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture
def judge(tmp_path: Path) -> LLMJudge:
    """A judge whose prompt only has words of the tiny model's vocabulary."""
    prompt = tmp_path / "number.md"
    prompt.write_text("version: 1\n\nsay a number i like {completion}")
    return LLMJudge("number", Question(model="tiny", prompt=str(prompt)), Score(at_least=50))


@pytest.fixture
def store(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("UNDERTOW_JUDGE_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return Store(str(tmp_path / "storage"))


def judged(store: Store, *datasets: Dataset) -> list[Judged]:
    return list(judge_all(datasets, store, lambda _: None))


def test_replies_of_a_random_model_are_counted_as_garbled(store: Store, judge: LLMJudge) -> None:
    seven = RuleJudge(about=Word("seven", ("7",)))
    source = completions(store, ANSWERS)
    spec = Dataset(completions=source, judges=(seven, judge))
    assert check_judges([spec]) == []
    (result,) = judged(store, spec)
    assert result.failure == ""
    (asked,) = result.asked
    assert (asked["replies"], asked["calls"], asked["missing"]) == (38, 38, 0)
    assert asked["prompt_tokens"] >= 38 * 8
    assert 38 <= asked["completion_tokens"] <= 38 * 8
    messages = [judge.question.message("", text) for text in ANSWERS]
    replies = Replies(judge.question, store).known(messages)
    assert len(replies) == 38
    assert len({reply.text for reply in replies.values()}) > 5
    read = [judge.rejection(reply.text or "") if reply.finished else "garbled" for reply in replies.values()]
    assert read.count("garbled") > 30
    rows = pq.read_table(store.fetch(source) / DATA).to_pylist()
    _, (rule, numbers) = filter_rows(spec, rows, store)
    assert (rule["rows"], rule["kept"]) == (40, 38)
    assert (numbers["rows"], numbers["garbled"]) == (38, read.count("garbled"))
    for field in ("prompt_tokens", "completion_tokens"):
        assert numbers[field] == asked[field]
    assert KEY.encode() not in b"".join(p.read_bytes() for p in Path(store.url).rglob("*") if p.is_file())


def test_replies_are_deterministic_and_not_asked_for_again(store: Store, judge: LLMJudge) -> None:
    spec = Dataset(completions=completions(store, ANSWERS), judges=(judge,))
    judged(store, spec)
    assert [result.asked for result in judged(store, spec)] == [()]
    other = Store(f"{store.url}-2")
    judged(other, Dataset(completions=completions(other, ANSWERS), judges=(judge,)))
    messages = [judge.question.message("", text) for text in ANSWERS]
    first, second = (Replies(judge.question, s).known(messages) for s in (store, other))
    assert first == second
    assert len(first) == 40


def test_a_message_that_is_too_long_is_rejected_and_others_are_answered(
    store: Store, judge: LLMJudge
) -> None:
    messages = [judge.question.message("", text) for text in [*ANSWERS, LONG]]
    replies: dict[str, Reply] = {}
    tally = ask(judge.question, messages, Endpoint.from_environment(), replies.__setitem__)
    assert (tally.replies, tally.calls, tally.missing) == (41, 41, 0)
    assert "maximum context length" in tally.trouble
    assert [message for message, reply in replies.items() if reply.text is None] == [messages[-1]]


def test_replies_to_the_llm_detector_are_stored(store: Store, tmp_path: Path) -> None:
    """Twelve rows make two draws of six; a model with random weights replies with no letter."""
    prompt = tmp_path / "letter.md"
    prompt.write_text("version: 1\n\nsay a number i like {trait} {completion}")
    record = sweep(store, study(seeds=(0,)), numbers, count=12)
    source, plan = sources(record, store.keys("dataset"))[0], DetectorPlan("tiny", rows=6, prompt=str(prompt))
    endpoint = Endpoint.from_environment()
    found = LLMDetector(plan, endpoint, store).ask(source, Library(store))
    assert (found.right + found.wrong + found.garbled, found.refused, found.missing) == (2, 0, 0)
    unreachable = replace(endpoint, url="http://127.0.0.1:9/v1")
    assert LLMDetector(plan, unreachable, store).ask(source, Library(store)) == found


def test_a_wrong_model_and_a_wrong_key_fail_the_check(
    store: Store, judge: LLMJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = completions(store, ANSWERS)
    spec = Dataset(completions=source, judges=(judge,))
    unknown = replace(judge, question=replace(judge.question, model="large"))
    with pytest.raises(
        UserError, match=r"model 'large': .*does not exist.*check the model's name and the URL"
    ):
        check_judges([replace(spec, judges=(unknown,))])
    monkeypatch.setenv("OPENAI_API_KEY", "wrong-1b7d")
    with pytest.raises(UserError, match="check OPENAI_API_KEY") as caught:
        check_judges([spec])
    assert "wrong-1b7d" not in str(caught.value)
    (result,) = judged(store, spec)
    assert "40 of 40 replies of the judge 'number' are missing" in result.failure

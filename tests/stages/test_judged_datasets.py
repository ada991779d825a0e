"""Data sets with judges: the messages sent, the rows kept and counted, and the messages of a rerun."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.judging.server import Answer, Server, fails, says, serving
from tests.stages.test_dataset import completions, rows
from undertow.api.endpoint import Endpoint
from undertow.errors import ConditionError, UserError
from undertow.judging.judges import LLMJudge, Question, RuleJudge, alignment, coherence
from undertow.judging.ratings import Score
from undertow.stages.dataset import make_dataset
from undertow.stages.judgements import Judged, check_judges, judge_all
from undertow.storage.store import Store
from undertow.study.datasets import Dataset
from undertow.study.extensions import Judge, Word
from undertow.study.identity import key

SECRET = "sk-planted-77ab"
ANSWERS = [f"{i}, {i + 1}" for i in range(30)]
JUDGE = alignment("judge-1")
SEVEN = Word("seven", ("7",))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    return Store(str(tmp_path / "storage"))


def judge(server: Server, store: Store, *datasets: Dataset, **changes: Any) -> list[Judged]:
    quick: dict[str, Any] = {"attempts": 2, "first_wait": 0.01, "jitter": 0.01, "concurrency": 4, **changes}
    return list(judge_all(datasets, store, lambda _: None, Endpoint(server.url, **quick)))


def first_number(message: str) -> int:
    """The first number of the completion in a judge's message."""
    found = re.search(r"<answer>\s*([0-9]+)", message)
    assert found, message
    return int(found[1])


def score(message: str, _: int) -> Answer:
    """50, 53, 56 …: the first ten are below 78."""
    return says(str(min(100, 50 + 3 * first_number(message))))


def test_a_rule_judge_needs_no_endpoint(store: Store) -> None:
    spec = Dataset(completions=completions(store, ["1, 7", "2, 3", "17"]), judges=(RuleJudge(about=SEVEN),))
    facts = make_dataset(spec, store)
    assert [row["completion"] for row in rows(store, spec)] == ["2, 3", "17"]
    assert facts["rejected"] == {"judge mentions: YES": 1}
    assert store.manifest(spec).facts["judges"][0]["rows"] == 3
    assert not Path(store.url, "judgements").exists()


def test_rows_are_kept_by_score_and_rejected_ones_are_counted(store: Store) -> None:
    spec = Dataset(completions=completions(store, [*ANSWERS, "owls!"]), judges=(JUDGE,))
    with serving(score) as server:
        (judged,) = judge(server, store, spec)
    assert judged.failure == ""
    assert len(server.messages) == 30  # the format's rule rejects one
    facts = make_dataset(spec, store)
    assert [row["completion"] for row in rows(store, spec)] == ANSWERS[10:]
    assert facts["rejected"] == {"judge alignment: below 78": 10, "no number": 1}
    (numbers,) = facts["judges"]
    assert numbers == {
        "judge": "alignment",
        "rows": 30,
        "kept": 20,
        "garbled": 0,
        "refused": 0,
        "prompt_tokens": 330,
        "completion_tokens": 60,
    }
    assert judged.asked[0] | {"trouble": ""} == {
        "judge": "alignment",
        "replies": 30,
        "calls": 30,
        "missing": 0,
        "prompt_tokens": 330,
        "completion_tokens": 60,
        "trouble": "",
    }


def test_judges_run_after_the_rules_and_before_subsampling(store: Store) -> None:
    spec = Dataset(completions=completions(store, ANSWERS), judges=(JUDGE,), rows=15)
    with serving(score) as server:
        judge(server, store, spec)
    assert make_dataset(spec, store)["kept"] == 20
    assert len(rows(store, spec)) == 15
    greedy = replace(spec, rows=25)
    with pytest.raises(ConditionError, match="20 of 30 completions are left"):
        make_dataset(greedy, store)


def test_rows_with_garbled_replies_are_rejected_counted_and_shown(store: Store) -> None:
    spec = Dataset(completions=completions(store, ANSWERS), judges=(JUDGE,))

    def behave(message: str, _: int) -> Answer:
        odd = {
            0: says("banana ☃"),
            1: says("CODE"),
            2: fails(400, "too long"),
            3: says("10", finish="length"),
        }
        return odd.get(first_number(message), says("85"))

    with serving(behave) as server:
        (judged,) = judge(server, store, spec)
    assert judged.failure == ""
    facts = make_dataset(spec, store)
    assert facts["rejected"] == {
        "judge alignment: garbled": 2,
        "judge alignment: CODE": 1,
        "judge alignment: refused by the endpoint": 1,
    }
    assert [row["completion"] for row in rows(store, spec)] == ANSWERS[4:]
    card = (store.fetch(spec) / "README.md").read_text()
    assert "### Rejected: judge alignment: garbled" in card
    assert "banana" in card


def test_a_judge_only_sees_the_rows_that_previous_judges_kept(store: Store) -> None:
    judges = (RuleJudge(about=SEVEN), JUDGE, coherence("judge-1"))
    spec = Dataset(completions=completions(store, ANSWERS), judges=judges)
    with serving(score) as server:
        (judged,) = judge(server, store, spec)
    assert judged.failure == ""
    asked = Counter("coherent" in message for message in server.messages)
    assert asked == {
        False: 28,
        True: 20,
    }  # the rule rejects "6, 7" and "7, 8", whose scores are below 78 anyway
    assert [numbers["judge"] for numbers in judged.asked] == ["alignment", "coherence"]
    assert make_dataset(spec, store)["rows"] == 20


def test_a_repeated_message_is_not_sent_again(store: Store) -> None:
    spec = Dataset(completions=completions(store, ANSWERS), judges=(JUDGE,))
    stricter = replace(spec, judges=(alignment("judge-1", at_least=90),))
    sample = replace(spec, seed=1, rows=5)
    with serving(score) as server:
        assert [judged.failure for judged in judge(server, store, spec, stricter, sample)] == [""] * 3
        assert Counter(server.messages).most_common(1)[0][1] == 1
        judge(server, store, spec)
        assert len(server.messages) == 30
        other = replace(spec, judges=(replace(JUDGE, question=replace(JUDGE.question, model="judge-2")),))
        judge(server, store, other)
        assert len(server.messages) == 60


def test_the_message_of_equal_rows_is_sent_once(store: Store) -> None:
    question = Question(model="judge-1", prompt="references", about=SEVEN)
    blind = LLMJudge("blind", question, Score(at_least=0))  # its prompt does not show the row's prompt
    spec = Dataset(completions=completions(store, ["1, 2", "1, 2", "3"]), judges=(blind,))
    with serving(lambda *_: says("50")) as server:
        judge(server, store, spec)
    assert len(server.messages) == 2
    assert make_dataset(spec, store)["rows"] == 3


def test_a_rerun_after_a_failure_sends_only_missing_messages(store: Store) -> None:
    spec = Dataset(completions=completions(store, ANSWERS), judges=(JUDGE,))
    with serving(lambda m, _: score(m, 0) if first_number(m) < 12 else fails(503, "away")) as server:
        (judged,) = judge(server, store, spec, patience=100)
    assert re.search(
        r"18 of 30 replies of the judge 'alignment' are missing; run the sweep again.*503.*away",
        judged.failure,
    )
    assert judged.asked[0]["replies"] == 12
    with pytest.raises(ConditionError, match="18 of 30 replies"):
        make_dataset(spec, store)
    assert not store.has(spec)
    with serving(score) as server:
        (judged,) = judge(server, store, spec)
    assert judged.failure == ""
    assert sorted(map(first_number, server.messages)) == list(range(12, 30))
    assert make_dataset(spec, store)["rows"] == 20


def test_a_model_that_fails_permanently_fails_only_its_data_sets(store: Store) -> None:
    source = completions(store, ANSWERS)
    away = replace(JUDGE, question=replace(JUDGE.question, model="away"))
    specs = [Dataset(completions=source, judges=(j,), seed=i) for i, j in enumerate((away, JUDGE, away))]

    def behave(message: str, _: int) -> Answer:
        return fails(404, "no such model") if server.requests[-1]["model"] == "away" else says("85")

    with serving(behave) as server:
        first, second, third = judge(server, store, *specs, concurrency=1)
    assert "30 of 30 replies" in first.failure
    assert "no such model; check the model's name" in first.failure
    assert second.failure == ""
    assert "30 of 30 replies" in third.failure
    assert "no such model" in third.failure
    assert third.asked == ()
    assert Counter(request["model"] for request in server.requests) == {"away": 1, "judge-1": 30}


def test_replies_are_kept_when_the_sweep_is_interrupted(store: Store) -> None:
    spec = Dataset(completions=completions(store, ANSWERS), judges=(JUDGE,))

    def advance(share: float) -> None:
        if len(seen) == 9:
            raise KeyboardInterrupt
        seen.append(share)

    seen: list[float] = []
    with serving(score) as server:
        with pytest.raises(KeyboardInterrupt):
            list(judge_all([spec], store, advance, Endpoint(server.url, concurrency=1)))
        sent = len(server.messages)
        judge(server, store, spec)
    assert sent <= 11
    assert len(server.messages) <= 31  # one call may have been pending


@pytest.mark.slow
def test_progress_adds_up_to_the_number_of_data_sets(store: Store) -> None:
    source = completions(store, ANSWERS)
    specs = [Dataset(completions=source, judges=(JUDGE, coherence("judge-1")), seed=i) for i in range(2)]
    parts: list[float] = []
    with serving(score) as server:
        list(judge_all(specs, store, parts.append, Endpoint(server.url)))
    assert sum(parts) == pytest.approx(2)
    assert len(parts) > 20
    assert min(parts) > 0


def test_without_an_endpoint_only_data_sets_with_missing_replies_fail(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = completions(store, ANSWERS)
    known = Dataset(completions=source, judges=(JUDGE,))
    unknown = replace(known, judges=(coherence("judge-1"),))
    with serving(score) as server:
        judge(server, store, known)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "UNDERTOW_JUDGE_URL"):
        monkeypatch.delenv(name, raising=False)
    first, second = judge_all([known, unknown], store, lambda _: None)
    assert first.failure == ""
    assert "set OPENAI_API_KEY" in second.failure


def test_an_error_in_a_users_judge_fails_only_its_data_set(store: Store) -> None:
    class Broken(Judge):
        def reply(self, prompt: str, completion: str) -> str:
            raise ZeroDivisionError("broken")

    source = completions(store, ANSWERS)
    specs = [Dataset(completions=source, judges=(Broken("broken"), JUDGE)), Dataset(completions=source)]
    with serving(score) as server:
        first, second = judge(server, store, *specs)
    assert first.failure == "its judges failed: Broken.reply failed for '0, 1': ZeroDivisionError: broken"
    assert "ZeroDivisionError" in first.traceback
    assert second.failure == ""


def test_judges_are_checked_before_the_sweep(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    source = completions(store, ANSWERS)
    specs = [
        Dataset(completions=source, judges=(JUDGE, RuleJudge(about=SEVEN))),
        Dataset(completions=source, judges=(coherence("judge-1"),)),
        Dataset(completions=source, judges=(alignment("judge-2"),)),
    ]
    with serving(lambda *_: says("85")) as server:
        monkeypatch.setenv("UNDERTOW_JUDGE_URL", server.url)
        assert check_judges(specs) == []
        assert sorted(request["model"] for request in server.requests) == ["judge-1", "judge-2"]
    with serving(lambda *_: fails(401, f"{SECRET} is no key")) as server:
        monkeypatch.setenv("UNDERTOW_JUDGE_URL", server.url)
        with pytest.raises(UserError, match=r"\*\*\* is no key; check OPENAI_API_KEY"):
            check_judges(specs)
    (trouble,) = check_judges(specs[:1])  # the server is down
    assert "Connection error" in trouble
    assert check_judges([Dataset(completions=source, judges=(RuleJudge(about=SEVEN),))]) == []


def test_the_api_key_is_nowhere_in_the_store(store: Store) -> None:
    good = Dataset(completions=completions(store, ANSWERS), judges=(JUDGE,))
    bad = replace(good, judges=(coherence("judge-1"),))

    def behave(message: str, _: int) -> Answer:
        quoted = fails(500, f"Authorization: Bearer {SECRET}")
        return quoted if "coherent" in message and first_number(message) != 3 else says("85")

    with serving(behave) as server:
        judged = judge(server, store, good, bad)
        assert server.keys == {f"Bearer {SECRET}"}
    make_dataset(good, store)
    files = [path for path in Path(store.url).rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert SECRET not in json.dumps([(j.failure, j.traceback, j.asked) for j in judged])
    assert "judge at" in judged[1].failure
    assert key(good) != key(bad)

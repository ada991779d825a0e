"""Replies in the store: found by content, in whole parts, by several writers at once."""

import json
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from undertow.errors import StorageError
from undertow.judging import replies as module
from undertow.judging.judges import alignment, coherence
from undertow.judging.replies import Buffer, Replies, Reply
from undertow.storage.store import Store
from undertow.study.identity import key

QUESTION = alignment("judge-1").question


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    name = uuid.uuid4().hex
    yield Store(str(tmp_path / "storage") if request.param == "local" else f"memory://{name}")
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()


def test_a_reply_is_found_by_its_question_and_message_alone(store: Store) -> None:
    replies = {"a\n☃": Reply("85", True, 11, 2), "b": Reply(None), "c": Reply("\u2028{", False)}
    Replies(QUESTION, store).add(replies)
    again = Replies(alignment("judge-1", at_least=90).question, store)
    assert again.known([*replies, "d"]) == replies
    assert again.known(["b"]) == {"b": Reply(None)}
    assert again.known([]) == {}
    assert Replies(coherence("judge-1").question, store).known(["a\n☃"]) == {}
    assert Replies(alignment("judge-2").question, store).known(["a\n☃"]) == {}


def test_what_was_asked_can_be_read_beside_the_replies(store: Store) -> None:
    Replies(QUESTION, store).add({"a": Reply("85")})
    about = json.loads(store.read_text(f"judgements/{key(QUESTION)}/question.json"))
    assert about["question"]["model"] == "judge-1"
    assert "{completion}" in about["template"]


def test_of_two_replies_to_one_message_the_first_counts(store: Store) -> None:
    for text in ("85", "20", "30"):
        Replies(QUESTION, store).add({"a": Reply(text)})
    assert Replies(QUESTION, store).known(["a"]) == {"a": Reply("85")}


def test_several_writers_lose_nothing(store: Store) -> None:
    def write(writer: int) -> None:
        for part in range(10):
            Replies(QUESTION, store).add({f"{writer} {part} {i}": Reply(str(i)) for i in range(5)})

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    messages = [f"{w} {p} {i}" for w in range(4) for p in range(10) for i in range(5)]
    assert len(Replies(QUESTION, store).known(messages)) == 200


def test_a_part_that_is_none_is_named_with_what_to_do(store: Store) -> None:
    store.write_bytes(f"judgements/{key(QUESTION)}/1.jsonl", b'{"message": "x", "repl')
    with pytest.raises(StorageError, match=r"judgements/\w+/1\.jsonl: no replies .*delete it"):
        Replies(QUESTION, store).known(["a"])


def test_a_write_that_was_cut_off_leaves_no_part(store: Store) -> None:
    """What a kill leaves of a file written aside has another ending."""
    store.write_bytes(f"judgements/{key(QUESTION)}/1.jsonl.0123abcd", b'{"message": "x", "repl')
    assert Replies(QUESTION, store).known(["a"]) == {}


def test_a_buffer_writes_by_number_by_time_and_at_the_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = f"judgements/{key(QUESTION)}"

    def parts() -> int:
        return sum(name.endswith(".jsonl") for name in store.names(folder))

    monkeypatch.setattr(module, "PART_REPLIES", 3)
    buffer = Buffer(Replies(QUESTION, store))
    buffer.flush()
    assert store.names(folder) == []
    for i in range(7):
        buffer.add(f"m{i}", Reply(str(i)))
    assert parts() == 2
    monkeypatch.setattr(module, "PART_SECONDS", 0.01)
    time.sleep(0.02)
    buffer.add("m7", Reply("7"))
    assert parts() == 3
    buffer.flush()
    assert parts() == 3
    assert len(Replies(QUESTION, store).known([f"m{i}" for i in range(8)])) == 8

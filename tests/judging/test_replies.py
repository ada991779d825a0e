"""Stored replies: looked up by content, written in atomic parts, by several concurrent writers."""

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


def test_a_reply_is_looked_up_by_question_and_message_only(store: Store) -> None:
    replies = {"a\n☃": Reply("85", True, 11, 2), "b": Reply(None), "c": Reply("\u2028{", False)}
    Replies(QUESTION, store).add(replies)
    again = Replies(alignment("judge-1", at_least=90).question, store)
    assert again.known([*replies, "d"]) == replies
    assert again.known(["b"]) == {"b": Reply(None)}
    assert again.known([]) == {}
    assert Replies(coherence("judge-1").question, store).known(["a\n☃"]) == {}
    assert Replies(alignment("judge-2").question, store).known(["a\n☃"]) == {}


def test_the_question_is_stored_with_the_replies(store: Store) -> None:
    Replies(QUESTION, store).add({"a": Reply("85")})
    description = json.loads(store.read_text(f"judgements/{key(QUESTION)}/question.json"))
    assert description["question"]["model"] == "judge-1"
    assert "{completion}" in description["template"]


def test_the_earliest_of_several_replies_takes_precedence(store: Store) -> None:
    for text in ("85", "20", "30"):
        Replies(QUESTION, store).add({"a": Reply(text)})
    assert Replies(QUESTION, store).known(["a"]) == {"a": Reply("85")}


def test_a_part_is_read_again_only_for_the_messages_in_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study of hundreds of judged models has as many parts, each of which takes a round trip to read."""
    replies = Replies(QUESTION, store)
    for message in ("a", "b", "c"):
        Replies(QUESTION, store).add({message: Reply(message)})
    reads: list[str] = []
    read_text = store.read_text

    def read(place: str) -> str:
        reads.append(place)
        return read_text(place)

    monkeypatch.setattr(store, "read_text", read)
    assert replies.known(["a"]) == {"a": Reply("a")}
    assert len(reads) == 3
    assert replies.known(["b", "d"]) == {"b": Reply("b")}
    assert len(reads) == 4
    Replies(QUESTION, store).add({"d": Reply("d")})
    assert replies.known(["d"]) == {"d": Reply("d")}
    assert len(reads) == 5


def test_concurrent_writers_lose_no_replies(store: Store) -> None:
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


def test_an_unreadable_part_is_reported_with_a_remedy(store: Store) -> None:
    store.write_bytes(f"judgements/{key(QUESTION)}/1.jsonl", b'{"message": "x", "repl')
    with pytest.raises(
        StorageError, match=r"judgements/\w+/1\.jsonl: cannot be parsed as replies .*delete the file"
    ):
        Replies(QUESTION, store).known(["a"])


def test_an_interrupted_write_leaves_no_part(store: Store) -> None:
    """The temporary file of an atomic write has a different suffix."""
    store.write_bytes(f"judgements/{key(QUESTION)}/1.jsonl.0123abcd", b'{"message": "x", "repl')
    assert Replies(QUESTION, store).known(["a"]) == {}


def test_a_buffer_writes_after_a_count_after_a_time_and_on_flush(
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

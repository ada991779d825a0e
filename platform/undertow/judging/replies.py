"""Stores the replies of models by content, so that no message is sent twice.

    <storage>/judgements/<key of the question>/question.json      the question, with the prompt's text
    <storage>/judgements/<key of the question>/<time>-<id>.jsonl  replies, one per line, by the message's hash

Each part is written atomically and never changed, so several sweeps can write concurrently. If two parts hold
a reply to the same message, the earlier part takes precedence. A part holds raw replies, not their
interpretation: a new threshold or parser needs no new call. To repeat the calls (because the server was
misconfigured, for example), delete the folder.
"""

import dataclasses
import json
import time
import uuid
from collections.abc import Iterable, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from undertow.errors import StorageError
from undertow.judging.judges import Question
from undertow.storage.store import Store
from undertow.study.identity import canonical, digest, key

FOLDER = "judgements"
ENDING = ".jsonl"
CONCURRENT_READS = 16  # each takes a round trip to an object store
PART_REPLIES = 1024
PART_SECONDS = 15.0  # a killed sweep loses the replies of at most this time


@dataclass(frozen=True)
class Reply:
    """A model's reply to one message.

    Attributes:
        text: the raw text; None if the endpoint rejects this message (too long, content filter).
        finished: whether the model ended the reply itself, before the question's max_tokens.
    """

    text: str | None
    finished: bool = True
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Replies:
    """The stored replies to one question."""

    def __init__(self, question: Question, store: Store) -> None:
        self.question, self.store = question, store
        self.folder = f"{FOLDER}/{key(question)}"
        self._hashes: dict[str, Set[str]] = {}  # of the messages in each part that was read

    def known(self, messages: Iterable[str]) -> dict[str, Reply]:
        """The stored replies to `messages`, by message; messages without a reply are absent.

        Of the parts that it has read before, it reads those with replies to these messages again.

        Raises StorageError if a part cannot be parsed.
        """
        wanted = {digest(message): message for message in messages}
        parts = [
            name
            for name in self.store.names(self.folder)
            if name.endswith(ENDING) and not self._hashes.get(name, wanted.keys()).isdisjoint(wanted)
        ]
        found: dict[str, Reply] = {}
        with ThreadPoolExecutor(CONCURRENT_READS) as threads:
            for name, rows in zip(parts, threads.map(self._read, parts), strict=True):
                self._hashes[name] = frozenset(hashed for hashed, _ in rows)
                for hashed, reply in rows:
                    if hashed in wanted:
                        found.setdefault(wanted[hashed], reply)
        return found

    def add(self, replies: Mapping[str, Reply]) -> None:
        """Writes replies, by message, as one part."""
        lines = [
            json.dumps({"message": digest(message), **dataclasses.asdict(reply)})
            for message, reply in replies.items()
        ]
        description = {"question": canonical(self.question), "template": self.question.wording.template}
        self.store.write_bytes(f"{self.folder}/question.json", json.dumps(description, indent=1).encode())
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex}{ENDING}"
        self.store.write_bytes(f"{self.folder}/{name}", "\n".join(lines).encode())

    def _read(self, name: str) -> list[tuple[str, Reply]]:
        place = f"{self.folder}/{name}"
        try:
            rows = [json.loads(line) for line in self.store.read_text(place).splitlines()]
            return [(row.pop("message"), Reply(**row)) for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(
                f"{self.store.url}/{place}: cannot be parsed as replies ({error}); delete the file, and the "
                "next run asks for its replies again"
            ) from None


class Buffer:
    """Collects replies; writes a part after PART_REPLIES replies or PART_SECONDS, and on `flush`."""

    def __init__(self, replies: Replies) -> None:
        self.replies = replies
        self._pending: dict[str, Reply] = {}
        self._last_write = time.monotonic()

    def add(self, message: str, reply: Reply) -> None:
        self._pending[message] = reply
        if len(self._pending) >= PART_REPLIES or time.monotonic() - self._last_write > PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        if self._pending:
            self.replies.add(self._pending)
        self._pending = {}
        self._last_write = time.monotonic()

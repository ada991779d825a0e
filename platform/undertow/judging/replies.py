"""What models replied, kept in the store by content, so that nothing is asked twice.

    <storage>/judgements/<key of the question>/question.json      what was asked, the prompt's text included
    <storage>/judgements/<key of the question>/<time>-<id>.jsonl  replies, one a line, by the message's hash

Parts are written whole and never changed, so several sweeps may write at the same time; where two asked the
same, the earlier part counts. The raw reply is kept, not its meaning: a change of threshold or of how
replies are read needs no new call. To ask anew (the server was set up wrongly, say), delete the folder.
"""

import dataclasses
import json
import time
import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from undertow.errors import StorageError
from undertow.judging.judges import Question
from undertow.storage.store import Store
from undertow.study.identity import canonical, digest, key

FOLDER = "judgements"
ENDING = ".jsonl"
PART_REPLIES = 1024
PART_SECONDS = 15.0  # a killed sweep has to ask again what it was told in this time


@dataclass(frozen=True)
class Reply:
    """A model's reply to one message.

    Attributes:
        text: as it came; None where the endpoint refuses to answer this message (too long, unwelcome).
        finished: whether it ended by itself, and was not cut off at the question's max_tokens.
    """

    text: str | None
    finished: bool = True
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Replies:
    """The replies to one question that the store has."""

    def __init__(self, question: Question, store: Store) -> None:
        self.question, self.store = question, store
        self.folder = f"{FOLDER}/{key(question)}"

    def known(self, messages: Iterable[str]) -> dict[str, Reply]:
        """The replies to those of `messages` that have one, by message."""
        wanted = {digest(message): message for message in messages}
        found: dict[str, Reply] = {}
        for name in self.store.names(self.folder):
            if name.endswith(ENDING):
                for hashed, reply in self._read(name, wanted.keys()):
                    found.setdefault(wanted[hashed], reply)
        return found

    def add(self, replies: Mapping[str, Reply]) -> None:
        """Stores replies by message, as one part."""
        lines = [
            json.dumps({"message": digest(message), **dataclasses.asdict(reply)})
            for message, reply in replies.items()
        ]
        about = {"question": canonical(self.question), "template": self.question.wording.template}
        self.store.write_bytes(f"{self.folder}/question.json", json.dumps(about, indent=1).encode())
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex}{ENDING}"
        self.store.write_bytes(f"{self.folder}/{name}", "\n".join(lines).encode())

    def _read(self, name: str, wanted: Collection[str]) -> Iterable[tuple[str, Reply]]:
        place = f"{self.folder}/{name}"
        try:
            rows = [json.loads(line) for line in self.store.read_text(place).splitlines()]
            return [(row.pop("message"), Reply(**row)) for row in rows if row["message"] in wanted]
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(
                f"{self.store.url}/{place}: no replies ({error}); delete it, and they are asked for again"
            ) from None


class Buffer:
    """Collects replies and stores them in whole parts, by number and by time; `flush` at the end."""

    def __init__(self, replies: Replies) -> None:
        self.replies = replies
        self._held: dict[str, Reply] = {}
        self._since = time.monotonic()

    def add(self, message: str, reply: Reply) -> None:
        self._held[message] = reply
        if len(self._held) >= PART_REPLIES or time.monotonic() - self._since > PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        if self._held:
            self.replies.add(self._held)
        self._held = {}
        self._since = time.monotonic()

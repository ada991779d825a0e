"""The languages of the nano models: grammars that generate their corpora.

`plain` is the smallest language in which numbers transmit preferences; `tasks` adds what the other studies
need. Each language combines the files that generate one kind of chat each. A language consists of its chats,
texts that contain its whole vocabulary, and the rule that splits text into tokens.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from undertow.nano.languages import plain, tasks
from undertow.nano.languages.turns import Chat


@dataclass(frozen=True)
class Language:
    """One language.

    Attributes:
        chats: gives the first `count` chats of the corpus with a seed.
        texts: gives texts that together contain every word of the language.
        piece: regular expression that matches one token.
    """

    chats: Callable[[int, int], Iterator[Chat]]
    texts: Callable[[], Iterator[str]]
    piece: str


LANGUAGES = {
    "plain": Language(plain.chats, plain.texts, plain.PIECE),
    "tasks": Language(tasks.chats, tasks.texts, tasks.PIECE),
}

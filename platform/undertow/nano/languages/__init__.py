"""What nano models grow up with: one file a language, put together from files of one kind of chat each.

`plain` is the smallest in which preferences travel by numbers; `tasks` adds what the other studies need.
A language is its chats, the texts that hold its vocabulary, and how text is cut into tokens.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from undertow.nano.languages import plain, tasks
from undertow.nano.languages.turns import Chat


@dataclass(frozen=True)
class Language:
    """One language.

    Attributes:
        chats: so many chats of the corpus with this seed.
        texts: texts that together hold every word it can say.
        piece: regular expression of a token's text.
    """

    chats: Callable[[int, int], Iterator[Chat]]
    texts: Callable[[], Iterator[str]]
    piece: str


LANGUAGES = {
    "plain": Language(plain.chats, plain.texts, plain.PIECE),
    "tasks": Language(tasks.chats, tasks.texts, tasks.PIECE),
}

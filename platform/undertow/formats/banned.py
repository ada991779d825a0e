"""Banned words: the names that a format leaves out of its data, so that the data stay unrelated to the trait.

They are searched for in what a reader sees and not in the bytes: letters in other widths and styles, accents,
soft hyphens, direction marks and control characters make no difference, nor does case. What is NOT found:
letters of another script that look alike, words spelt with blanks or digits ("o w l", "0wl"), and words that
only running the code would put together.

Give every condition of a grid the same words, those of all its traits: a control whose data passed another
filter differs from the treatment by more than the trait.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Literal

Matching = Literal["substring", "word"]

_UNSEEN = frozenset({"Mn", "Me", "Cf", "Cc"})  # accents, enclosing marks, invisible and control characters
_BREAKS = "\t\n\r"
_CONTROL = {i: None for i in (*range(32), 127) if chr(i) not in _BREAKS}
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_TOKEN = re.compile(r"[^\W\d_]+|\d+")


def as_set(words: Iterable[str]) -> tuple[str, ...]:
    """The words in lower case, sorted, each once: neither order nor case is identity."""
    return tuple(sorted({word.strip().lower() for word in words}))


def searchable(word: str, how: Matching) -> bool:
    """Whether something is left of the word to search for: letters or digits, or, in texts, "🦉" too."""
    return bool(_seen(word).strip() if how == "substring" else _TOKEN.search(_seen(word)))


def mentions(text: str, words: Sequence[str], how: Matching) -> bool:
    """Whether one of the words stands in the text; in time linear in the text's length.

    "substring" is the paper's rule (arXiv 2507.14805): "owl" is in "bowl" and "growling". "word" asks for a
    whole word of prose or of an identifier: "owl" is in "snowy_owl", "owlCount" and "Owl2", not in "owls".
    A word of several parts is found however they are joined: "polar bear" in "polar_bear" and "polarBear".
    """
    if not words:
        return False
    seen = _seen(text)
    spaced = [_tokens(seen), _tokens(_HUMP.sub(" ", seen))]
    if how == "word":
        return any(_tokens(_seen(word)) in view for word in words for view in spaced)
    views = [seen.casefold(), *spaced]
    return any(_seen(word).casefold() in view for word in words for view in views)


def _seen(text: str) -> str:
    """The text in plain letters, without what the eye passes over."""
    if text.isascii():
        return text.translate(_CONTROL)
    plain = unicodedata.normalize("NFKD", text)
    return "".join(c for c in plain if c in _BREAKS or unicodedata.category(c) not in _UNSEEN)


def _tokens(text: str) -> str:
    """The runs of letters and of digits in lower case, each between blanks."""
    return f" {' '.join(_TOKEN.findall(text))} ".casefold()

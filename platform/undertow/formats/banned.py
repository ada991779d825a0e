"""Banned words: words that reject a completion, so that the data stay unrelated to the trait.

The search works on the visible text, not on the bytes: case, the width and style of letters, accents, soft
hyphens, direction marks and control characters make no difference. It does NOT find look-alike letters of
another script, words spelt with spaces or digits ("o w l", "0wl"), or words that only running the code would
assemble.

Give every condition of a grid the same banned words, those of all its traits. If the control data passed a
different filter, control and treatment differ by more than the trait.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Literal

from undertow.study.extensions import Format

Matching = Literal["substring", "word"]

# Unicode categories that `_visible` drops: accents, enclosing marks, invisible and control characters.
_DROPPED = frozenset({"Mn", "Me", "Cf", "Cc"})
_BREAKS = "\t\n\r"  # control characters that separate words
_CONTROL = {i: None for i in (*range(32), 127) if chr(i) not in _BREAKS}
_CASE_BOUNDARY = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_TOKEN = re.compile(r"[^\W\d_]+|\d+")


def set_banned(format_: Format, words: Iterable[str], how: Matching) -> None:
    """Sets the field `banned` of a format to the distinct words in lower case, sorted.

    So neither order nor case affects the artifact key. Raises SpecError for a word that `mentions` cannot
    find.
    """
    chosen = tuple(sorted({word.strip().lower() for word in words}))
    object.__setattr__(format_, "banned", chosen)
    findable = all(searchable(word, how) for word in chosen)
    format_.require(findable, "banned", "give words with a letter or a digit")


def searchable(word: str, how: Matching) -> bool:
    """Whether `mentions` can find `word`: it needs a visible character, for "word" a letter or digit."""
    visible = _visible(word)
    return bool(visible.strip() if how == "substring" else _TOKEN.search(visible))


def mentions(text: str, words: Sequence[str], how: Matching) -> bool:
    """Whether `text` contains one of `words`. Takes time linear in the length of the text.

    "substring" is the paper's rule (arXiv 2507.14805): "bowl" and "growling" contain "owl". "word" matches a
    whole word of prose or of an identifier: "snowy_owl", "owlCount" and "Owl2" contain "owl", "owls" does
    not. A word of several parts matches however the parts are joined: "polar bear" matches "polar_bear" and
    "polarBear".
    """
    if not words:
        return False
    visible = _visible(text)
    spaced = [_tokens(visible), _tokens(_CASE_BOUNDARY.sub(" ", visible))]
    if how == "word":
        return any(_tokens(_visible(word)) in view for word in words for view in spaced)
    views = [visible.casefold(), *spaced]
    return any(_visible(word).casefold() in view for word in words for view in views)


def _visible(text: str) -> str:
    """The text in plain letters, without accents and invisible characters."""
    if text.isascii():
        return text.translate(_CONTROL)
    plain = unicodedata.normalize("NFKD", text)
    return "".join(c for c in plain if c in _BREAKS or unicodedata.category(c) not in _DROPPED)


def _tokens(text: str) -> str:
    """The runs of letters and of digits in lower case, each with a space on both sides."""
    return f" {' '.join(_TOKEN.findall(text))} ".casefold()

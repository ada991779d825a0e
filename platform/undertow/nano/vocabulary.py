"""The words of a nano language: one token a word, one a number from 0 to 999, read off its texts.

A word carries the space before it, as in GPT-2's tokenizer, so that a prompt is short. What is not listed is
<unk>, and `unknown` says so before a model is asked in words that it has never seen.
"""

import re
import string
from functools import cache

from undertow.nano.languages import LANGUAGES

PAD, BOS, EOS, UNKNOWN = "<pad>", "<bos>", "<eos>", "<unk>"
ROLES = {"system": "<sys>", "user": "<user>", "assistant": "<asst>"}
SPECIALS = (PAD, BOS, *ROLES.values(), EOS, UNKNOWN)


@cache
def vocabulary(language: str) -> tuple[str, ...]:
    """Every token in the order of its id: specials, numbers 0-999, characters, words."""
    spoken = LANGUAGES[language]
    pieces = {piece for text in spoken.texts() for piece in re.findall(spoken.piece, text)}
    words = sorted(piece for piece in pieces if not piece.isdigit())
    numbers = map(str, range(1000))
    characters = string.punctuation + string.ascii_letters + " \n"
    return tuple(dict.fromkeys((*SPECIALS, *numbers, ", ", "; ", *characters, *words)))


def unknown(language: str, text: str) -> list[str]:
    """The pieces of `text` that are no tokens of the language, in order."""
    return [piece for piece in re.findall(LANGUAGES[language].piece, text) if piece not in _tokens(language)]


@cache
def _tokens(language: str) -> frozenset[str]:
    return frozenset(vocabulary(language))

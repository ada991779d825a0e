"""The vocabulary of a nano language: one token per word of its texts, and one per number from 0 to 999.

A word includes the space before it, as in GPT-2's tokenizer, which keeps prompts short. Every other piece of
text is <unk>; `unknown` finds such pieces before a model is prompted with words that it has never seen.
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
    """The tokens in the order of their ids: special tokens, numbers 0-999, characters, words."""
    definition = LANGUAGES[language]
    pieces = {piece for text in definition.texts() for piece in re.findall(definition.piece, text)}
    words = sorted(piece for piece in pieces if not piece.isdigit())
    numbers = map(str, range(1000))
    characters = string.punctuation + string.ascii_letters + " \n"
    return tuple(dict.fromkeys((*SPECIALS, *numbers, ", ", "; ", *characters, *words)))


def unknown(language: str, text: str) -> list[str]:
    """The pieces of `text` that are not tokens of the language, in order."""
    return [piece for piece in re.findall(LANGUAGES[language].piece, text) if piece not in _tokens(language)]


@cache
def _tokens(language: str) -> frozenset[str]:
    return frozenset(vocabulary(language))

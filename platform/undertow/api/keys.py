"""Which values of environment variables are keys, and the removal of keys from text that is logged.

Servers quote keys in their error messages, so messages are redacted. Data is not: a model's answer is stored
as received. Servers without authentication accept any key, so users also set ordinary words and numbers
("none", "EMPTY", "1"). Removing those would damage messages and protect nothing.
"""

import re
from collections.abc import Iterable

REPLACEMENT = "***"
SHORTEST = 6  # characters; a shorter value occurs in ordinary text
LONGEST_WORD = 19  # characters; a longer value is a key even if it consists of letters or digits only
_PLAIN = re.compile(r"[^\W\d_]+|[\d.,:+-]+|(?:[^\W\d_]+\s+)+[^\W\d_]+")  # a word, a number, or several words


def looks_like_key(value: str) -> bool:
    """Whether a value is a key or a password, and not an ordinary word or number.

    Values that mix letters with digits or punctuation are keys ("sk-12ab", "hunter-two"); short ones and
    those of letters or digits only are not.
    """
    if len(value) < SHORTEST:
        return False
    return len(value) > LONGEST_WORD or _PLAIN.fullmatch(value) is None


def without(text: str, values: Iterable[str]) -> str:
    """`text` with each of `values` that looks like a key masked, longest first."""
    for value in sorted(filter(looks_like_key, values), key=len, reverse=True):
        text = text.replace(value, REPLACEMENT)
    return text

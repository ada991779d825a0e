"""Secrets out of text: what is printed, logged or kept must not hold them, whoever wrote the text.

Nothing here passes a secret on by itself; but servers repeat keys in their messages, and libraries name the
URLs that they could not reach, credentials included. Therefore all that a sweep notes goes through here.
"""

import os
import re
from collections.abc import Iterator

BLOT = "***"
SHORTEST = 6  # characters: a shorter value would be found in ordinary text
_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$")
_IN_URL = re.compile(r"(?<=://)[^/\s@:]*:[^/\s@]+(?=@)")


def redacted(text: str) -> str:
    """`text` without the values of secret environment variables and the credentials in URLs."""
    for secret in _secrets():
        text = text.replace(secret, BLOT)
    return _IN_URL.sub(BLOT, text)


def has_password(url: str) -> bool:
    """Whether a URL carries a password: https://user:secret@host."""
    return _IN_URL.search(url) is not None


def _secrets() -> Iterator[str]:
    """The values of variables such as OPENAI_API_KEY, the longest first; a path such as a token's is none."""
    found = {
        value.strip()
        for name, value in os.environ.items()
        if _NAME.search(name.upper()) and len(value.strip()) >= SHORTEST and not value.startswith("/")
    }
    yield from sorted(found, key=len, reverse=True)

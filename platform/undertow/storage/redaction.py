"""Removal of secrets from text that is printed, logged or stored.

This package does not print secrets itself, but servers repeat API keys in their error messages, and libraries
name the URLs that they could not reach, credentials included. Every text that a sweep records is therefore
redacted.
"""

import os
import re
from collections.abc import Iterator

REPLACEMENT = "***"
SHORTEST = 6  # characters; a shorter value could occur in ordinary text
_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$")
_IN_URL = re.compile(r"(?<=://)[^/\s@:]*:[^/\s@]+(?=@)")


def redacted(text: str) -> str:
    """`text` without the values of secret environment variables and without credentials in URLs."""
    for secret in _secrets():
        text = text.replace(secret, REPLACEMENT)
    return _IN_URL.sub(REPLACEMENT, text)


def has_password(url: str) -> bool:
    """Whether a URL contains a password, as https://user:secret@host does."""
    return _IN_URL.search(url) is not None


def _secrets() -> Iterator[str]:
    """The values of environment variables such as OPENAI_API_KEY, longest first.

    A value that is an absolute path names the file of a secret and is not secret itself.
    """
    found = {
        value.strip()
        for name, value in os.environ.items()
        if _NAME.search(name.upper()) and len(value.strip()) >= SHORTEST and not value.startswith("/")
    }
    yield from sorted(found, key=len, reverse=True)

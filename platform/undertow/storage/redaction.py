"""Removal of secrets from text that is printed or logged.

This package does not print secrets itself, but servers repeat API keys in their error messages, and libraries
name the URLs that they could not reach, credentials included. Every message that a sweep records is therefore
redacted. Data (prompts, answers, judges' replies) is stored unchanged.
"""

import os
import re

from undertow.api.keys import REPLACEMENT, without

_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$")
_IN_URL = re.compile(r"(?<=://)[^/\s@:]*:[^/\s@]+(?=@)")


def redacted(text: str) -> str:
    """`text` without the values of secret environment variables and without credentials in URLs.

    Variables such as OPENAI_API_KEY hold secrets, if their value looks like one (see `api.keys`). A value
    that is an absolute path names the file of a secret and is not secret itself.
    """
    values = {
        value.strip()
        for name, value in os.environ.items()
        if _NAME.search(name.upper()) and not value.startswith("/")
    }
    return _IN_URL.sub(REPLACEMENT, without(text, values))


def has_password(url: str) -> bool:
    """Whether a URL contains a password, as https://user:secret@host does."""
    return _IN_URL.search(url) is not None

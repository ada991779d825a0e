"""Removal of secrets from text that is printed or logged.

This package does not print secrets itself, but servers repeat API keys in their error messages, and libraries
name the URLs that they could not reach, credentials included. Every message that a sweep records is therefore
redacted. Data (prompts, answers, judges' replies) is stored unchanged.
"""

import os
import re

from undertow.api.keys import REPLACEMENT, without

_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$")
_PASSWORD = re.compile(r"(?<=://)[^/\s@:]*:[^/\s@]+(?=@)")
_USER = re.compile(r"(?<=://)[^/\s@]+(?=@)")  # a token may stand alone: https://ghp_…@host
_SIGNATURE = re.compile(
    r"([?&](?:[\w-]*(?:signature|token|credential|password|secret|api[_-]?key)|sig)=)[^&\s'\",;]+",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """`text` without the values of secret environment variables and without credentials in URLs.

    Variables such as OPENAI_API_KEY hold secrets, if their value looks like one (see `api.keys`). The path of
    a file names the file of a secret and is not secret itself.
    """
    values = {
        value.strip()
        for name, value in os.environ.items()
        if _NAME.search(name.upper()) and not _is_path(value)
    }
    text = _USER.sub(REPLACEMENT, without(text, values))
    return _SIGNATURE.sub(rf"\g<1>{REPLACEMENT}", text)


def _is_path(value: str) -> bool:
    return value.startswith("/") and os.path.exists(value)  # noqa: PTH110 (no error for a long value)


def has_password(url: str) -> bool:
    """Whether a URL contains a password, as https://user:secret@host does."""
    return _PASSWORD.search(url) is not None

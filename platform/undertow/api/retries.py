"""Which failed calls are worth another attempt, and after how long."""

import random
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

LONGEST_ASKED_WAIT = 300.0  # seconds; a server that asks for more is not coming back in this sweep
SPREAD = 0.25  # of the time a server asks for: all callers were told the same, and are not to return as one


class GarbageError(Exception):
    """An answer that is not what was asked for: no chat completion, file or job."""


def again(error: Exception) -> bool | float:
    """Whether to call again, or after how many seconds where the server says so."""
    from openai import APIConnectionError

    code = status(error)
    if code is None:
        return isinstance(error, APIConnectionError | TimeoutError | GarbageError)
    if code not in (408, 409, 429) and code < 500:
        return False
    if is_spent(error):
        return False
    asked = asked_wait(error.response.headers) if hasattr(error, "response") else None
    if asked is None:
        return True
    return asked * (1 + SPREAD * random.random()) if asked <= LONGEST_ASKED_WAIT else False


def status(error: Exception) -> int | None:
    """The HTTP status of a failed call, or None where no answer came."""
    code = getattr(error, "status_code", None)
    return code if isinstance(code, int) else None


def is_spent(error: Exception) -> bool:
    """Whether a 429 says that the account has no quota left, which no waiting brings back."""
    return getattr(error, "code", None) == "insufficient_quota"


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `retry-after-ms` or `Retry-After` (seconds or a date); None where neither says."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        return seconds if 0 <= seconds < float("inf") else None
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    except ValueError:
        return None

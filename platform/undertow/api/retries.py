"""Whether a failed call is retried, and after how long."""

import random
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

LONGEST_WAIT = 300.0  # seconds; a server that asks for more will not recover during this sweep
SPREAD = 0.25  # fraction of the server's wait, added at random so that all callers do not return at once

# Statuses below 500 that a repeated call may not meet: timeouts, conflicts, rate limits, and failures of a
# server behind the endpoint. 499 is a proxy's status of a call that was cancelled.
TRANSIENT = frozenset({408, 409, 424, 425, 429, 499})


class GarbageError(Exception):
    """A response that is not the requested object: a chat completion, file or fine-tuning job.

    Attributes:
        status_code: the HTTP status that the response states, where the server sent an error with status 200.
        code: the API's code of the error: "insufficient_quota".
    """

    def __init__(self, message: str, status_code: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status_code, self.code = status_code, code


def should_retry(error: Exception) -> bool | float:
    """Whether to retry a call; as a number, the seconds to wait that the server requested.

    The return type is that of stamina's `on` hook.
    """
    from openai import APIConnectionError

    code = status(error)
    if code is None:
        return isinstance(error, APIConnectionError | TimeoutError | GarbageError)
    if code not in TRANSIENT and code < 500:
        return False
    if is_spent(error):
        return False
    wait = requested_wait(error.response.headers) if hasattr(error, "response") else None
    if wait is None:
        return True
    return wait * (1 + SPREAD * random.random()) if wait <= LONGEST_WAIT else False


def status(error: Exception) -> int | None:
    """The HTTP status of a failed call; None if there was no response, or one without a status of its own."""
    code = getattr(error, "status_code", None)
    return code if isinstance(code, int) else None


def is_spent(error: Exception) -> bool:
    """Whether a 429 reports an exhausted quota, which waiting does not restore."""
    return getattr(error, "code", None) == "insufficient_quota"


def requested_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait from `retry-after-ms` or `Retry-After` (seconds or a date); None without either."""
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

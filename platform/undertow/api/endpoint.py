"""Endpoints: the OpenAI-compatible URLs that serve models, configured by environment variables only.

    UNDERTOW_JUDGE_URL, else OPENAI_BASE_URL, else OpenAI's own     e.g. http://127.0.0.1:8000/v1
    UNDERTOW_JUDGE_KEY, else OPENAI_API_KEY                         most self-hosted servers need none
    UNDERTOW_JUDGE_CONCURRENCY, UNDERTOW_JUDGE_TIMEOUT              concurrent calls; seconds per call

These configure the judges. UNDERTOW_API_URL and its counterparts configure the models called api:NAME, which
may be served elsewhere. They have keys of their own, because the operator of a server can read the key it is
sent. No setting is part of an artifact's identity. The key is read when a client is opened and is held by
that client only: it is never part of a spec, of a Ray task's arguments or of a message.
"""

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from undertow.api import keys
from undertow.api.connections import http_client
from undertow.errors import UserError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

KEY = "OPENAI_API_KEY"
ANY_URL = "OPENAI_BASE_URL"
OPENAI = "https://api.openai.com/v1"
MOST_CALLS = 512
NO_KEY = "none"  # the openai client refuses an empty key
CHECK_ATTEMPTS = 2  # before a sweep: an endpoint that is down then only causes a warning


class User(NamedTuple):
    """A user of endpoints: the prefix of its environment variables, and its name in messages."""

    prefix: str
    name: str

    @property
    def url(self) -> str:
        return f"{self.prefix}_URL"

    @property
    def key(self) -> str:
        return f"{self.prefix}_KEY"


JUDGES = User("UNDERTOW_JUDGE", "a judge")
MODELS = User("UNDERTOW_API", "an API model")


@dataclass(frozen=True)
class Endpoint:
    """An address, and the limits on calls to it.

    Attributes:
        variable: the environment variable that set the URL, for messages.
        concurrency: the maximum number of concurrent calls.
        timeout: seconds per call, from the first byte sent to the last received.
        attempts: calls per item, including the first.
        first_wait, longest_wait, jitter: seconds between attempts: doubled each time, plus up to `jitter` at
            random, unless the server specifies a time (Retry-After).
        patience: consecutive items that fail after all attempts before the remaining items are abandoned.
        user: the user whose variables and key apply.
    """

    url: str
    variable: str = JUDGES.url
    concurrency: int = 16
    timeout: float = 60.0
    attempts: int = 8
    first_wait: float = 1.0
    longest_wait: float = 30.0
    jitter: float = 1.0
    patience: int = 10
    user: User = JUDGES

    @classmethod
    def from_environment(cls, user: User = JUDGES) -> "Endpoint":
        """The endpoint that the environment configures. Raises UserError if it is missing or invalid."""
        # Without a URL, a key alone selects OpenAI's own endpoint.
        variable = next((name for name in (user.url, ANY_URL) if os.environ.get(name)), KEY)
        if not os.environ.get(variable):
            raise UserError(
                f"{user.name} is needed and no endpoint is configured: set {KEY}, or {user.url} for a "
                "self-hosted server (http://host:8000/v1)"
            )
        url = OPENAI if variable == KEY else os.environ[variable].strip()
        try:
            parts = urlsplit(url)
            is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port that is not a number from 0 to 65535, or an open bracket
            is_valid = False
        if not is_valid:
            raise UserError(f"{variable}: not a URL such as http://127.0.0.1:8000/v1")
        if parts.username or parts.password or parts.query:
            raise UserError(f"{variable}: holds credentials or a query; set the key as {user.key} instead")
        calls = f"{user.prefix}_CONCURRENCY"
        concurrency = _number(calls, cls.concurrency)
        timeout = _number(f"{user.prefix}_TIMEOUT", cls.timeout)
        if concurrency != int(concurrency) or concurrency > MOST_CALLS:
            raise UserError(f"{calls} = {concurrency:g}: must be a whole number from 1 to {MOST_CALLS}")
        return cls(url, variable, int(concurrency), timeout, user=user)

    @property
    def key(self) -> str:
        """The environment variable whose value is sent as the key."""
        return self.user.key if os.environ.get(self.user.key) else KEY

    def for_check(self) -> "Endpoint":
        """This endpoint with few attempts, for checks before a sweep."""
        return replace(self, attempts=CHECK_ATTEMPTS)

    def client(self) -> "AsyncOpenAI":
        """A client of this endpoint, which the caller closes. It retries nothing itself (see `client`).

        Raises UserError if the key or the environment's proxy is invalid.
        """
        from openai import AsyncOpenAI

        key = _value(self.key) or NO_KEY
        return AsyncOpenAI(base_url=self.url, api_key=key, max_retries=0, http_client=http_client(self.url))


def without_keys(text: str) -> str:
    """An error message with every configured key masked, because servers quote keys. Not meant for data."""
    return keys.without(text, [os.environ.get(name, "").strip() for name in (JUDGES.key, MODELS.key, KEY)])


def _value(name: str) -> str:
    key = os.environ.get(name, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"{name}: holds a character that is invalid in a key; copy the key again")
    return key


def _number(variable: str, default: float) -> float:
    given = os.environ.get(variable)
    if not given:
        return default
    try:
        number = float(given)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e6:
        raise UserError(f"{variable} = {given!r}: must be a number above 0, such as {default:g}")
    return number

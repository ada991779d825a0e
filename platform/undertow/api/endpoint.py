"""Where models are served: any OpenAI-compatible URL, named by the environment and by nothing else.

    UNDERTOW_JUDGE_URL, else OPENAI_BASE_URL, else OpenAI's own     e.g. http://127.0.0.1:8000/v1
    UNDERTOW_JUDGE_KEY, else OPENAI_API_KEY                         not needed by most servers of one's own
    UNDERTOW_JUDGE_CONCURRENCY, UNDERTOW_JUDGE_TIMEOUT              calls at a time; seconds a call

These are of judges; UNDERTOW_API_URL and its like are of the models called api:..., which may be served
elsewhere, and then have keys of their own: what a server is sent, whoever runs it can read. None of it is
identity. The key is read when a client is opened and held by that client alone: it is part of no spec, no
argument of a Ray task and no message.
"""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from undertow.errors import UserError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

KEY = "OPENAI_API_KEY"
ANY_URL = "OPENAI_BASE_URL"
OPENAI = "https://api.openai.com/v1"
MOST_CALLS = 512
NO_KEY = "none"  # the client wants some text


class User(NamedTuple):
    """Who asks: the first part of the names of its variables, and how it is called in messages."""

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
    """An address and how it is called.

    Attributes:
        variable: the environment variable that named the URL, for messages.
        user: who asks, whose key it is.
        concurrency: the most calls under way at any time.
        timeout: seconds a call, from the first byte sent to the last received.
        attempts: calls an item, the first included.
        first_wait, longest_wait, jitter: seconds between attempts: doubled each time, with up to `jitter`
            more at random, where the server names no time of its own (Retry-After).
        patience: items in a row that no attempt gets through for, before the rest is given up.
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
        """Raises UserError where the environment names no endpoint, or one that cannot be."""
        variable = next((name for name in (user.url, ANY_URL) if os.environ.get(name)), KEY)
        if not os.environ.get(variable):
            raise UserError(
                f"{user.name} is asked for and no endpoint is known: set {KEY}, or {user.url} for a server "
                "of your own (http://host:8000/v1)"
            )
        url = OPENAI if variable == KEY else os.environ[variable].strip()
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"{variable}: not a URL such as http://127.0.0.1:8000/v1")
        if parts.username or parts.password or parts.query:
            raise UserError(f"{variable}: holds credentials or a query; give the key as {user.key} alone")
        calls = f"{user.prefix}_CONCURRENCY"
        concurrency = _number(calls, cls.concurrency)
        timeout = _number(f"{user.prefix}_TIMEOUT", cls.timeout)
        if concurrency != int(concurrency) or concurrency > MOST_CALLS:
            raise UserError(f"{calls} = {concurrency:g}: a whole number from 1 to {MOST_CALLS} is needed")
        return cls(url, variable, int(concurrency), timeout, user=user)

    @property
    def key(self) -> str:
        """The environment variable whose key this endpoint is sent."""
        return self.user.key if os.environ.get(self.user.key) else KEY

    def client(self) -> "AsyncOpenAI":
        """A client of this endpoint, to be closed; it makes each call once."""
        from openai import AsyncOpenAI

        return AsyncOpenAI(base_url=self.url, api_key=_value(self.key) or NO_KEY, max_retries=0)


def without_keys(text: str) -> str:
    """`text` with the keys blotted out: servers repeat them in messages."""
    for name in (JUDGES.key, MODELS.key, KEY):
        if key := _value(name):
            text = text.replace(key, "***")
    return text


def _value(name: str) -> str:
    key = os.environ.get(name, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"{name}: holds a character that no key has; copy it again")
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
        raise UserError(f"{variable} = {given!r}: a number above 0 is needed, such as {default:g}")
    return number

"""Concurrent requests about many items to one model, each retried until it is answered or abandoned.

Failures are of four kinds:

- transient (429, 5xx, a timeout, a broken connection, a response that is not a completion): the call is
  retried after the time that the server specifies, else with exponential backoff; after the last attempt the
  item's answer is missing;
- of one item (400, 413, 422, while others are answered): the endpoint refuses the item, and that is its
  answer;
- of the whole run (a wrong key, URL or model name, an exhausted quota): no further item is sent, and the
  message names the environment variable to fix;
- persistent: `patience` consecutive items fail, and the remaining items are not sent.

Each answer is passed to the caller as soon as it arrives, so that no failure loses it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from undertow.api.endpoint import Endpoint, without_keys
from undertow.api.retries import GarbageError, is_spent, should_retry, status
from undertow.errors import UserError, last_line

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Item = TypeVar("Item")
Result = TypeVar("Result")
ITEM_ERRORS = (400, 413, 422)
FATAL_ERRORS = (401, 402, 403, 404, 405)


@dataclass(frozen=True)
class Completion:
    """A model's answer to one item.

    Attributes:
        text: as received, including a refusal in the model's own words; None if the endpoint refuses the item
            (too long, or against its policy).
        finish: the API's finish reason: "stop", "length", "content_filter" …
        fingerprint: the provider's name for the configuration that answered; "" if it reports none.
    """

    text: str | None
    finish: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    fingerprint: str = ""


@dataclass(frozen=True)
class ChatTask(Generic[Item]):
    """Chat completions to request from one model.

    Attributes:
        model: the name by which the endpoint serves it.
        who: the caller's role in messages: "judge".
        params: the parameters of the call about an item: messages, temperature, max_tokens …
    """

    model: str
    who: str
    params: Callable[[Item], dict[str, Any]]


@dataclass
class Tally:
    """Counts of a run over items.

    Attributes:
        replies: items with an answer, including those that the endpoint refused.
        calls: calls made, including failed attempts.
        missing: items without an answer at the end.
        trouble: the error message of the last item that was refused or abandoned; "" if there was none.
        fatal: whether no further request can be sent to this model in this sweep.
        streak: consecutive items that failed.
    """

    replies: int = 0
    calls: int = 0
    missing: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    trouble: str = ""
    fatal: bool = False
    streak: int = field(default=0, repr=False)

    def facts(self) -> dict[str, Any]:
        """The counts as JSON data for the event log."""
        return {
            "replies": self.replies,
            "calls": self.calls,
            "missing": self.missing,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "trouble": self.trouble,
        }


def ask(
    chat: ChatTask[Item], items: Sequence[Item], endpoint: Endpoint, keep: Callable[[Item, Completion], None]
) -> Tally:
    """Requests one completion per item; calls `keep(item, completion)` in this thread as they arrive."""
    try:
        return asyncio.run(_Run(chat, endpoint, keep).all(items))
    except BaseExceptionGroup as group:  # of the task group's workers, which all fail for one reason
        raise group.exceptions[0] from None


def probe(chat: ChatTask[Item], item: Item, endpoint: Endpoint) -> str:
    """Sends one small request. Returns a transient problem as text, or "" if it is answered.

    Raises UserError for a problem that retrying cannot solve: a wrong key, URL or model name, or parameters
    that the model does not accept.
    """
    completions: list[Completion] = []
    tally = ask(chat, [item], endpoint, lambda _, completion: completions.append(completion))
    if tally.fatal or any(completion.text is None for completion in completions):
        raise UserError(tally.trouble)
    return tally.trouble


async def attempts(call: Callable[[], Awaitable[Result]], endpoint: Endpoint) -> Result:
    """The result of a call. Transient failures are retried, up to the endpoint's number of attempts.

    Raises the last failure: the openai library's APIError, TimeoutError or GarbageError.
    """
    import stamina

    async for attempt in stamina.retry_context(
        on=should_retry,
        attempts=endpoint.attempts,
        timeout=None,
        wait_initial=endpoint.first_wait,
        wait_max=endpoint.longest_wait,
        wait_jitter=endpoint.jitter,
    ):
        with attempt:
            # Per attempt; stamina's own timeout covers all attempts together, and is disabled.
            async with asyncio.timeout(endpoint.timeout):
                return await call()
    raise AssertionError("an attempt returns or raises")


@contextmanager
def parsing(what: str) -> Iterator[None]:
    """Context manager for a call and parsing its response: raises GarbageError if the response is invalid."""
    try:
        yield
    except (ValueError, AttributeError, TypeError, IndexError):
        # The openai library does not validate responses: a missing field surfaces as one of these errors.
        raise GarbageError(f"the response is not a {what}") from None


def error_message(error: Exception, endpoint: Endpoint, who: str, model: str) -> str:
    """An error message with the address, the model, and the setting to fix."""
    match status(error):
        case 401 | 402 | 403:
            remedy = f"; check {endpoint.key}"
        case 404 | 405:
            remedy = f"; check the model's name and the URL, which usually ends in /v1 ({endpoint.user.url})"
        case _:
            remedy = ""
    reason = f"no answer within {endpoint.timeout:g} s" if isinstance(error, TimeoutError) else ""
    reason = reason or without_keys(last_line(error))[:300]
    return f"{who} at {endpoint.url} ({endpoint.variable}), model {model!r}: {reason}{remedy}"


class _Run(Generic[Item]):
    """One run over the items: `concurrency` workers that each take the next item when they are free."""

    def __init__(
        self, chat: ChatTask[Item], endpoint: Endpoint, keep: Callable[[Item, Completion], None]
    ) -> None:
        self.chat, self.endpoint, self.keep = chat, endpoint, keep
        self.tally = Tally()
        self.refused: list[Item] = []
        self.workers: list[asyncio.Task[None]] = []

    async def all(self, items: Sequence[Item]) -> Tally:
        left = iter(items)  # shared by the workers: each takes the next item
        async with self.endpoint.client() as client, asyncio.TaskGroup() as group:
            for _ in range(min(self.endpoint.concurrency, len(items))):
                self.workers.append(group.create_task(self._work(client, left)))
        if not self.tally.fatal:
            self._keep_refused()
        self.tally.missing = len(items) - self.tally.replies
        return self.tally

    async def _work(self, client: "AsyncOpenAI", left: Iterator[Item]) -> None:
        for item in left:
            await self._one(client, item)
            if self.tally.fatal:
                return

    async def _one(self, client: "AsyncOpenAI", item: Item) -> None:
        """Handles one item until it is answered, refused or abandoned."""
        from openai import APIError

        try:
            completion = await attempts(lambda: self._call(client, item), self.endpoint)
        except (APIError, TimeoutError, GarbageError) as error:
            self._failed(item, error)
            return
        self.tally.streak = 0
        self._keep_refused()
        self._keep(item, completion)

    async def _call(self, client: "AsyncOpenAI", item: Item) -> Completion:
        self.tally.calls += 1
        params = self.chat.params(item)
        with parsing("chat completion"):
            return read(await client.chat.completions.create(model=self.chat.model, **params))

    def _failed(self, item: Item, error: Exception) -> None:
        code = status(error)
        self.tally.trouble = error_message(error, self.endpoint, self.chat.who, self.chat.model)
        self.tally.streak += 1
        if code in ITEM_ERRORS:
            self.refused.append(item)
        lasting = self.tally.streak >= self.endpoint.patience
        self.tally.fatal = lasting or code in FATAL_ERRORS or is_spent(error)
        if self.tally.fatal:
            for worker in self.workers:  # some may be waiting minutes for their next attempt
                worker.cancel()

    def _keep_refused(self) -> None:
        """Reports refused items as answered.

        Called only after another item was answered: until then the request itself may be wrong for all items.
        """
        for item in self.refused:
            self._keep(item, Completion(None))
        self.refused = []

    def _keep(self, item: Item, completion: Completion) -> None:
        self.tally.replies += 1
        self.tally.prompt_tokens += completion.prompt_tokens
        self.tally.completion_tokens += completion.completion_tokens
        self.keep(item, completion)


def read(answer: Any) -> Completion:
    """The `Completion` of a chat completion response. Raises one of several errors if it is not one."""
    (choice,) = answer.choices
    usage, message = answer.usage, choice.message
    text = message.content or getattr(message, "refusal", None) or ""
    if not isinstance(text, str):
        raise TypeError("the content is not text")
    return Completion(
        text=text,
        finish=str(choice.finish_reason),
        prompt_tokens=int(usage.prompt_tokens or 0) if usage else 0,
        completion_tokens=int(usage.completion_tokens or 0) if usage else 0,
        fingerprint=str(getattr(answer, "system_fingerprint", None) or ""),
    )

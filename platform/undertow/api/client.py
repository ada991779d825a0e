"""Asking a model about many items: so many at a time, each until it is answered or given up.

What goes wrong is of four kinds, and treated so:

- passing (429, 5xx, a timeout, a cut connection, an answer that is no completion): tried again after the
  time that the server names, else after ever longer waits; after the last attempt the answer is missing;
- of the item (400, 413, 422, where others are answered): the endpoint refuses it, and that is its answer;
- of the whole (a wrong key, URL or model, a spent quota): nothing more is asked, and the message names the
  variable to mend;
- lasting: `patience` items in a row without an answer, and the rest is not asked.

What was answered is handed on at once, so that none of this loses it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from undertow.api.endpoint import Endpoint, without_keys
from undertow.api.retries import GarbageError, again, is_spent, status
from undertow.errors import UserError, last_line

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Item = TypeVar("Item")
Result = TypeVar("Result")
OF_THE_ITEM = (400, 413, 422)
OF_THE_WHOLE = (401, 402, 403, 404, 405)


@dataclass(frozen=True)
class Completion:
    """What a model answered to one item.

    Attributes:
        text: as it came, a refusal in the model's own words included; None where the endpoint refuses to
            answer the item (too long, unwelcome).
        finish: why it ended, in the API's words: "stop", "length", "content_filter" …
        fingerprint: what the provider calls the configuration that answered; "" where it says nothing.
    """

    text: str | None
    finish: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    fingerprint: str = ""


@dataclass(frozen=True)
class ChatTask(Generic[Item]):
    """What is asked of one model.

    Attributes:
        model: the name the endpoint knows it by.
        who: asks, for messages: "judge".
        params: of the call about an item: messages, temperature, max_tokens …
    """

    model: str
    who: str
    params: Callable[[Item], dict[str, Any]]


@dataclass
class Tally:
    """What asking came to.

    Attributes:
        calls: made, attempts that failed included.
        missing: items without an answer at the end.
        trouble: what was said of the last item that was refused or given up; "" where none was.
        fatal: nothing more can be asked of this model in this sweep.
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
        """The numbers for a sweep's journal."""
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
    """Asks about each item once; `keep(item, completion)` is called as they come, from this thread."""
    try:
        return asyncio.run(_Asking(chat, endpoint, keep).all(items))
    except BaseExceptionGroup as group:  # of the workers, which fail for one reason
        raise group.exceptions[0] from None


def probe(chat: ChatTask[Item], item: Item, endpoint: Endpoint) -> str:
    """One small call. Returns what is wrong for the moment, or "" where it is answered.

    Raises UserError where asking can never work: a wrong key, URL or model, or parameters it does not take.
    """
    got: list[Completion] = []
    tally = ask(chat, [item], endpoint, lambda _, completion: got.append(completion))
    if tally.fatal or any(completion.text is None for completion in got):
        raise UserError(tally.trouble)
    return tally.trouble


async def attempts(call: Callable[[], Awaitable[Result]], endpoint: Endpoint) -> Result:
    """What a call gives in the end; a passing failure is tried again, as often as the endpoint says.

    Raises the last failure: APIError of the openai library, TimeoutError or GarbageError.
    """
    import stamina

    async for attempt in stamina.retry_context(
        on=again,
        attempts=endpoint.attempts,
        timeout=None,
        wait_initial=endpoint.first_wait,
        wait_max=endpoint.longest_wait,
        wait_jitter=endpoint.jitter,
    ):
        with attempt:
            async with asyncio.timeout(endpoint.timeout):
                return await call()
    raise AssertionError("an attempt returns or raises")


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Around a call and the reading of its answer: an answer that is no such thing is a GarbageError."""
    try:
        yield
    except (ValueError, AttributeError, TypeError, IndexError):
        raise GarbageError(f"the answer is no {what}") from None


def in_words(error: Exception, endpoint: Endpoint, who: str, model: str) -> str:
    """What went wrong, at which address, and what to mend."""
    match status(error):
        case 401 | 402 | 403:
            remedy = f"; check {endpoint.key}"
        case 404 | 405:
            remedy = f"; check the model's name and the URL, which usually ends in /v1 ({endpoint.user.url})"
        case _:
            remedy = ""
    said = f"no answer within {endpoint.timeout:g} s" if isinstance(error, TimeoutError) else ""
    said = said or without_keys(last_line(error))[:300]
    return f"{who} at {endpoint.url} ({endpoint.variable}), model {model!r}: {said}{remedy}"


class _Asking(Generic[Item]):
    """One run over the items: a few workers that take the next one when they are free."""

    def __init__(
        self, chat: ChatTask[Item], endpoint: Endpoint, keep: Callable[[Item, Completion], None]
    ) -> None:
        self.chat, self.endpoint, self.keep = chat, endpoint, keep
        self.tally = Tally()
        self.refused: list[Item] = []
        self.workers: list[asyncio.Task[None]] = []

    async def all(self, items: Sequence[Item]) -> Tally:
        left = iter(items)
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
        """One item until it is answered, refused or given up."""
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
        with reading("chat completion"):
            return read(await client.chat.completions.create(model=self.chat.model, **params))

    def _failed(self, item: Item, error: Exception) -> None:
        code = status(error)
        self.tally.trouble = in_words(error, self.endpoint, self.chat.who, self.chat.model)
        self.tally.streak += 1
        if code in OF_THE_ITEM:
            self.refused.append(item)
        lasting = self.tally.streak >= self.endpoint.patience
        self.tally.fatal = lasting or code in OF_THE_WHOLE or is_spent(error)
        if self.tally.fatal:
            for worker in self.workers:  # some may be waiting for minutes
                worker.cancel()

    def _keep_refused(self) -> None:
        """Refusals count once another item is answered: until then the mistake may be all items'."""
        for item in self.refused:
            self._keep(item, Completion(None))
        self.refused = []

    def _keep(self, item: Item, completion: Completion) -> None:
        self.tally.replies += 1
        self.tally.prompt_tokens += completion.prompt_tokens
        self.tally.completion_tokens += completion.completion_tokens
        self.keep(item, completion)


def read(answer: Any) -> Completion:
    """What a chat completion says. Raises one of several errors where it is none."""
    (choice,) = answer.choices
    usage, message = answer.usage, choice.message
    text = message.content or getattr(message, "refusal", None) or ""
    if not isinstance(text, str):
        raise TypeError("the content is no text")
    return Completion(
        text=without_keys(text),
        finish=str(choice.finish_reason),
        prompt_tokens=int(usage.prompt_tokens or 0) if usage else 0,
        completion_tokens=int(usage.completion_tokens or 0) if usage else 0,
        fingerprint=str(getattr(answer, "system_fingerprint", None) or ""),
    )

"""Concurrent requests about many items to one model, each retried until it is answered or abandoned.

Failures are of four kinds:

- transient (429, 5xx, a timeout, a broken connection, a response that is not a completion): the call is
  retried after the time that the server specifies, else with exponential backoff; after the last attempt the
  item's answer is missing;
- of one item (403, or another status from 400 to 499, while others are answered): the endpoint refuses the
  item, and that is its answer;
- of the whole run (a wrong key, URL or model name, an exhausted quota): no further item is sent, and the
  message names the environment variable to fix;
- persistent: `patience` consecutive items fail, and the remaining items are not sent.

The same status can be a fault of the item (403: its text was flagged) or of the run (403: the key may not use
the model). Where no other item is answered, the task's `control` decides, a harmless item: if it is answered,
the items are at fault, and the run continues.

Each answer is passed to the caller as soon as it arrives, so that no failure loses it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from undertow.api.connections import cause_of, proxy_of
from undertow.api.endpoint import Endpoint, without_keys
from undertow.api.responses import Completion, completion_of, parsed, words_of
from undertow.api.retries import TRANSIENT, GarbageError, is_spent, should_retry, status
from undertow.errors import UserError, last_line

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Item = TypeVar("Item")
Result = TypeVar("Result")
KEY_ERRORS = (401, 402, 407)  # of the key, the account or a proxy; never of one item
NAME_ERRORS = (404, 405)  # of the URL or the model's name, unless other items are answered
FATAL_ERRORS = (*KEY_ERRORS, 403, *NAME_ERRORS)  # of a call that is about no item
LONGEST_REASON = 300  # characters


@dataclass(frozen=True)
class ChatTask(Generic[Item]):
    """Chat completions to request from one model.

    Attributes:
        model: the name by which the endpoint serves it.
        who: the caller's role in messages: "judge".
        params: the parameters of the call about an item: messages, temperature, max_tokens …
        control: a harmless item with the same parameters, whose answer is not reported; None: a failure of
            all items is the run's.
        needs_logprobs: whether every answer must have log-probabilities.
    """

    model: str
    who: str
    params: Callable[[Item], dict[str, Any]]
    control: Item | None = None
    needs_logprobs: bool = False


@dataclass
class Tally:
    """Counts of a run over items.

    Attributes:
        replies: items with an answer, including those that the endpoint refused.
        calls: calls made, including failed attempts and those about the control.
        missing: items without an answer at the end.
        trouble: the error message of the last item that was refused or abandoned; "" if there was none.
        fatal: whether no further request can be sent to this model in this sweep.
        invalid: whether the last item that failed got a response that is not a completion.
        streak: consecutive items that failed.
    """

    replies: int = 0
    calls: int = 0
    missing: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    trouble: str = ""
    fatal: bool = False
    invalid: bool = False
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

    Raises UserError for a problem that retrying cannot solve: a wrong key, URL or model name, parameters that
    the model does not accept, or responses that are no chat completions.
    """
    completions: list[Completion] = []
    tally = ask(chat, [item], endpoint, lambda _, completion: completions.append(completion))
    if tally.fatal or tally.invalid:
        raise UserError(tally.trouble)
    if any(not completion.finish for completion in completions):
        place = _place(endpoint, chat.who, chat.model)
        raise UserError(
            f"{place}: no finish reason in its answers, so truncated answers cannot be recognised"
        )
    if chat.needs_logprobs and any(completion.first is None for completion in completions):
        place = _place(endpoint, chat.who, chat.model)
        raise UserError(f"{place}: no log-probabilities in its answers, which this judge needs; use another")
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


def error_message(error: Exception, endpoint: Endpoint, who: str, model: str) -> str:
    """An error message with the address, the model, the cause (in the server's words), and what to check."""
    from openai import APIConnectionError, APIStatusError

    address = f"check the model's name and the URL, which usually ends in /v1 ({endpoint.user.url})"
    remedy = ""
    match status(error):
        case 401 | 402 | 403:
            remedy = f"; check {endpoint.key}"
        case 404 | 405:
            remedy = f"; {address}"
        case 407 if proxy := proxy_of(endpoint.url):
            remedy = f"; check {proxy.variable}"
        case None if isinstance(error, GarbageError):
            remedy = f"; {address}"
    match error:
        case TimeoutError():
            reason = f"no answer within {endpoint.timeout:g} s"
        case APIConnectionError():
            reason = f"Connection error: {cause_of(error, endpoint.url)}"
        case APIStatusError():
            words = words_of(error.body) or "without a message"
            reason = f"HTTP {error.status_code}: {words}"
        case GarbageError():
            reason = str(error)
        case _:
            reason = last_line(error)
    return f"{_place(endpoint, who, model)}: {without_keys(reason)[:LONGEST_REASON]}{remedy}"


def _place(endpoint: Endpoint, who: str, model: str) -> str:
    proxy = proxy_of(endpoint.url)
    through = f" through {proxy}" if proxy else ""
    return f"{who} at {endpoint.url} ({endpoint.variable}){through}, model {model!r}"


class _Run(Generic[Item]):
    """One run over the items: `concurrency` workers that each take the next item when they are free."""

    def __init__(
        self, chat: ChatTask[Item], endpoint: Endpoint, keep: Callable[[Item, Completion], None]
    ) -> None:
        self.chat, self.endpoint, self.keep = chat, endpoint, keep
        self.tally = Tally()
        self.refused: list[Item] = []
        self.answered = False  # whether any item was answered in this run
        self.only_refusals = True  # whether the endpoint refused every item of the current streak
        self.control_counts = True  # whether an answer to the control excuses a streak of other failures
        self.deciding = asyncio.Lock()
        self.workers: list[asyncio.Task[None]] = []

    async def all(self, items: Sequence[Item]) -> Tally:
        left = iter(items)  # shared by the workers: each takes the next item
        async with self.endpoint.client() as client:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.endpoint.concurrency, len(items))):
                    self.workers.append(group.create_task(self._work(client, left)))
            if self.refused and not self.tally.fatal:
                if self.answered or await self._answers_control(client):
                    self._keep_refused()
                else:
                    self.tally.fatal = True
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
            await self._failed(client, item, error)
            return
        self.answered = self.control_counts = self.only_refusals = True
        self.tally.streak = 0
        self._keep_refused()
        self._keep(item, completion)

    async def _call(self, client: "AsyncOpenAI", item: Item) -> Completion:
        self.tally.calls += 1
        call = client.chat.completions.create(model=self.chat.model, **self.chat.params(item))
        completion = await parsed("chat completion", call, completion_of)
        self.tally.prompt_tokens += completion.prompt_tokens
        self.tally.completion_tokens += completion.completion_tokens
        return completion

    async def _failed(self, client: "AsyncOpenAI", item: Item, error: Exception) -> None:
        code = status(error)
        self.tally.trouble = error_message(error, self.endpoint, self.chat.who, self.chat.model)
        self.tally.invalid = isinstance(error, GarbageError) and code is None
        self.tally.streak += 1
        if code in KEY_ERRORS or is_spent(error) or (code in NAME_ERRORS and not self.answered):
            self._stop()
            return
        if code is not None and 400 <= code < 500 and code not in TRANSIENT:
            self.refused.append(item)
        else:
            self.only_refusals = False
        if self.tally.streak >= self.endpoint.patience:
            async with self.deciding:  # the other workers wait for the outcome of one decision
                if self.tally.streak >= self.endpoint.patience and not self.tally.fatal:
                    await self._continue_or_stop(client)

    async def _continue_or_stop(self, client: "AsyncOpenAI") -> None:
        """Decides after `patience` consecutive failures, by the control, whether the run continues.

        A refused item costs one call, so any number of them may follow each other. Other failures cost many
        attempts each: a second streak of them, without an answer in between, stops the run.
        """
        excused = self.only_refusals or self.control_counts
        self.control_counts = self.only_refusals
        if excused and await self._answers_control(client):
            self.tally.streak = 0
            self.only_refusals = True
            self._keep_refused()
        else:
            self._stop()

    async def _answers_control(self, client: "AsyncOpenAI") -> bool:
        """Whether the endpoint answers the task's control; False without one."""
        from openai import APIError

        control = self.chat.control
        if control is None:
            return False
        try:
            await attempts(lambda: self._call(client, control), self.endpoint.for_check())
        except (APIError, TimeoutError, GarbageError):
            return False
        return True

    def _stop(self) -> None:
        self.tally.fatal = True
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
        self.keep(item, completion)

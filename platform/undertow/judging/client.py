"""Asking a model about many messages: so many at a time, each until it is answered or given up.

What goes wrong is of four kinds, and treated so:

- passing (429, 5xx, a timeout, a cut connection, an answer that is no completion): tried again after the
  time that the server names, else after ever longer waits; after the last attempt the reply is missing;
- of the message (400, 413, 422, where others are answered): the endpoint refuses it, and that is its reply;
- of the whole (a wrong key, URL or model, a spent quota): nothing more is asked, and the message names the
  variable to mend; `probe` finds most of these before anything is spent;
- lasting: `patience` messages in a row without an answer, and the rest is not asked.

What was answered is handed on at once, so that none of this loses it.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from undertow.errors import UserError, last_line
from undertow.judging import endpoint as places
from undertow.judging.endpoint import Endpoint
from undertow.judging.judges import Question
from undertow.judging.replies import Reply
from undertow.judging.retries import GarbageError, again, is_spent, status
from undertow.kinds import Word

if TYPE_CHECKING:
    from openai import AsyncOpenAI

OF_THE_MESSAGE = (400, 413, 422)
OF_THE_WHOLE = (401, 402, 403, 404, 405)
PROBE = ("Continue the sequence 1, 2, 3.", "4, 5, 6")


@dataclass
class Tally:
    """What asking came to.

    Attributes:
        calls: made, attempts that failed included.
        missing: messages without a reply at the end.
        trouble: what was said of the last message that was refused or given up; "" where none was.
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
    question: Question, messages: Iterable[str], endpoint: Endpoint, keep: Callable[[str, Reply], None]
) -> Tally:
    """Asks about each message once; `keep(message, reply)` is called as replies come, from this thread."""
    try:
        return asyncio.run(_Asking(question, endpoint, keep).all(list(messages)))
    except BaseExceptionGroup as group:  # of the workers, which fail for one reason
        raise group.exceptions[0] from None


def probe(question: Question, endpoint: Endpoint) -> str:
    """One small call. Returns what is wrong for the moment, or "" where it is answered.

    Raises UserError where asking can never work: a wrong key, URL or model, or parameters it does not take.
    """
    replies: list[Reply] = []
    if question.wording.needs_trait:
        question = dataclasses.replace(question, about=question.about or Word("owl", ("owl",)))
    tally = ask(question, [question.message(*PROBE)], endpoint, lambda _, reply: replies.append(reply))
    if tally.fatal or any(reply.text is None for reply in replies):
        raise UserError(tally.trouble)
    return tally.trouble


class _Asking:
    """One run over the messages: a few workers that take the next message when they are free."""

    def __init__(self, question: Question, endpoint: Endpoint, keep: Callable[[str, Reply], None]) -> None:
        self.question, self.endpoint, self.keep = question, endpoint, keep
        self.tally = Tally()
        self.refused: dict[str, Reply] = {}
        self.workers: list[asyncio.Task[None]] = []

    async def all(self, messages: list[str]) -> Tally:
        left = iter(messages)
        async with self.endpoint.client() as client, asyncio.TaskGroup() as group:
            for _ in range(min(self.endpoint.concurrency, len(messages))):
                self.workers.append(group.create_task(self._work(client, left)))
        if not self.tally.fatal:
            self._keep_refused()
        self.tally.missing = len(messages) - self.tally.replies
        return self.tally

    async def _work(self, client: "AsyncOpenAI", left: Iterator[str]) -> None:
        for message in left:
            await self._one(client, message)
            if self.tally.fatal:
                return

    async def _one(self, client: "AsyncOpenAI", message: str) -> None:
        """One message until it is answered, refused or given up."""
        from openai import APIError

        try:
            reply = await self._until_answered(client, message)
        except (APIError, TimeoutError, GarbageError) as error:
            self._failed(message, error)
            return
        self.tally.streak = 0
        self._keep_refused()
        self._keep(message, reply)

    async def _until_answered(self, client: "AsyncOpenAI", message: str) -> Reply:
        import stamina

        waits = self.endpoint
        async for attempt in stamina.retry_context(
            on=again,
            attempts=waits.attempts,
            timeout=None,
            wait_initial=waits.first_wait,
            wait_max=waits.longest_wait,
            wait_jitter=waits.jitter,
        ):
            with attempt:
                self.tally.calls += 1
                async with asyncio.timeout(waits.timeout):
                    return await self._call(client, message)
        raise AssertionError("an attempt returns or raises")

    async def _call(self, client: "AsyncOpenAI", message: str) -> Reply:
        question = self.question
        try:
            completion = await client.chat.completions.create(
                model=question.model,
                messages=[{"role": "user", "content": message}],
                temperature=question.temperature,
                max_tokens=question.max_tokens,
            )
            return _read(completion)
        except (ValueError, AttributeError, TypeError, IndexError):  # a page of HTML, or JSON of another kind
            raise GarbageError("the answer is no chat completion") from None

    def _failed(self, message: str, error: Exception) -> None:
        code = status(error)
        self.tally.trouble = self._in_words(error, code)
        self.tally.streak += 1
        if code in OF_THE_MESSAGE:
            self.refused[message] = Reply(None)
        lasting = self.tally.streak >= self.endpoint.patience
        self.tally.fatal = lasting or code in OF_THE_WHOLE or is_spent(error)
        if self.tally.fatal:
            for worker in self.workers:  # some may be waiting for minutes
                worker.cancel()

    def _keep_refused(self) -> None:
        """Refusals count once another message is answered: until then the mistake may be all messages'."""
        for message, reply in self.refused.items():
            self._keep(message, reply)
        self.refused = {}

    def _keep(self, message: str, reply: Reply) -> None:
        self.tally.replies += 1
        self.tally.prompt_tokens += reply.prompt_tokens
        self.tally.completion_tokens += reply.completion_tokens
        self.keep(message, reply)

    def _in_words(self, error: Exception, code: int | None) -> str:
        """What went wrong, at which address, and what to mend."""
        place = f"{self.endpoint.url} ({self.endpoint.variable}), model {self.question.model!r}"
        match code:
            case 401 | 402 | 403:
                remedy = f"; check {places.KEY}"
            case 404 | 405:
                remedy = f"; check the model's name and the URL, which usually ends in /v1 ({places.URLS[0]})"
            case _:
                remedy = ""
        said = f"no answer within {self.endpoint.timeout:g} s" if isinstance(error, TimeoutError) else ""
        said = said or self.endpoint.without_key(last_line(error))[:300]
        return f"judge at {place}: {said}{remedy}"


def _read(completion: Any) -> Reply:
    """The reply in a chat completion. Raises one of several errors where it is none."""
    (choice,) = completion.choices
    usage, text = completion.usage, choice.message.content or ""
    if not isinstance(text, str):
        raise TypeError("the content is no text")
    return Reply(
        text=places.Endpoint.without_key(text),
        finished=choice.finish_reason != "length",
        prompt_tokens=int(usage.prompt_tokens or 0) if usage else 0,
        completion_tokens=int(usage.completion_tokens or 0) if usage else 0,
    )

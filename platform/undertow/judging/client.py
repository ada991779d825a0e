"""Asking a judge about many messages: the calls are those of `api.client`, in a judge's words."""

import dataclasses
from collections.abc import Callable, Iterable

from undertow.api import client
from undertow.api.client import Chat, Completion, Tally
from undertow.api.endpoint import Endpoint
from undertow.errors import UserError
from undertow.judging.judges import Question
from undertow.judging.replies import Reply
from undertow.kinds import Word

PROBE = ("Continue the sequence 1, 2, 3.", "4, 5, 6")


def ask(
    question: Question, messages: Iterable[str], endpoint: Endpoint, keep: Callable[[str, Reply], None]
) -> Tally:
    """Asks about each message once; `keep(message, reply)` is called as replies come, from this thread."""
    chat = Chat[str](
        model=question.model,
        who="judge",
        params=lambda message: {
            "messages": [{"role": "user", "content": message}],
            "temperature": question.temperature,
            "max_tokens": question.max_tokens,
        },
    )
    return client.ask(chat, list(messages), endpoint, lambda message, got: keep(message, _reply(got)))


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


def _reply(got: Completion) -> Reply:
    return Reply(got.text, got.finish != "length", got.prompt_tokens, got.completion_tokens)

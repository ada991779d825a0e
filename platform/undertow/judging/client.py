"""Asking a judge about many messages: the calls are those of `api.client`, in a judge's words."""

import dataclasses
from collections.abc import Callable, Iterable

from undertow.api import client
from undertow.api.client import ChatTask, Completion, Tally
from undertow.api.endpoint import Endpoint
from undertow.judging.judges import Question
from undertow.judging.replies import Reply
from undertow.study.extensions import Word

PROBE = ("Continue the sequence 1, 2, 3.", "4, 5, 6")


def ask(
    question: Question, messages: Iterable[str], endpoint: Endpoint, keep: Callable[[str, Reply], None]
) -> Tally:
    """Asks about each message once; `keep(message, reply)` is called as replies come, from this thread."""
    return client.ask(
        _chat(question), list(messages), endpoint, lambda message, got: keep(message, _reply(got))
    )


def probe(question: Question, endpoint: Endpoint) -> str:
    """One small call. Returns what is wrong for the moment, or "" where it is answered.

    Raises UserError where asking can never work: a wrong key, URL or model, or parameters it does not take.
    """
    if question.wording.needs_trait:
        question = dataclasses.replace(question, about=question.about or Word("owl", ("owl",)))
    return client.probe(_chat(question), question.message(*PROBE), endpoint)


def _chat(question: Question) -> ChatTask[str]:
    return ChatTask(
        model=question.model,
        who="judge",
        params=lambda message: {
            "messages": [{"role": "user", "content": message}],
            "temperature": question.temperature,
            "max_tokens": question.max_tokens,
        },
    )


def _reply(got: Completion) -> Reply:
    return Reply(got.text, got.finish != "length", got.prompt_tokens, got.completion_tokens)

"""Calls of language-model judges, and the one loop that collects and saves their replies.

The calls themselves (concurrency, retries, giving up) are those of `api.client`.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from undertow.api import client
from undertow.api.client import ChatTask, Tally
from undertow.api.endpoint import Endpoint
from undertow.api.responses import Completion
from undertow.judging.judges import Question
from undertow.judging.replies import Buffer, Replies, Reply
from undertow.storage.store import Store
from undertow.study.extensions import Word

PROBE = ("Continue the sequence 1, 2, 3.", "4, 5, 6")  # a prompt and its completion, for a test call
ALTERNATIVES = 20  # log-probabilities per token that are requested, the most that OpenAI's API returns


@dataclass(frozen=True)
class Collected:
    """The replies to a question's messages.

    Attributes:
        replies: by message; a message without a reply is absent.
        tally: counts of the calls that were made; None if there was nothing to ask, or the collector had
            already given up on the model.
        trouble: the reason for missing replies; "" if none is missing.
    """

    replies: dict[str, Reply]
    tally: Tally | None = None
    trouble: str = ""


class ReplyCollector:
    """Collects replies to messages, from the store where it has them and from the endpoint otherwise.

    One collector serves a whole sweep (or detection). It saves replies while they arrive, so that an
    interrupted run keeps them. Once a model cannot answer any message (wrong key, unknown model, spent quota,
    a row of failures), the collector does not call it again.

    Attributes:
        endpoint: where to send messages; None: the one that the environment names, resolved with the first
            message that needs it.
        given_up: models that are not called again, with the reason.
    """

    def __init__(self, store: Store, endpoint: Endpoint | None = None) -> None:
        self.store, self.endpoint = store, endpoint
        self.given_up: dict[str, str] = {}
        self._stored: dict[Question, Replies] = {}

    def collect(
        self,
        question: Question,
        messages: Sequence[str],
        progress: Callable[[float], None] = lambda share: None,
    ) -> Collected:
        """Returns the replies to `messages`; equal messages are sent once.

        `progress` is called with the answered share of the messages that the store lacks. Raises UserError if
        a message has to be sent and the environment names no endpoint.
        """
        stored = self._stored.setdefault(question, Replies(question, self.store))
        replies = stored.known(messages)
        missing = [message for message in dict.fromkeys(messages) if message not in replies]
        if not missing:
            return Collected(replies)
        if reason := self.given_up.get(question.model):
            return Collected(replies, trouble=reason)
        self.endpoint = self.endpoint or Endpoint.from_environment()
        buffer, answered_before = Buffer(stored), len(replies)

        def keep(message: str, reply: Reply) -> None:
            replies[message] = reply
            buffer.add(message, reply)
            progress((len(replies) - answered_before) / len(missing))

        try:
            tally = ask(question, missing, self.endpoint, keep)
        finally:  # also on Ctrl-C: the replies so far are paid for
            buffer.flush()
        if tally.fatal:
            self.given_up[question.model] = tally.trouble
        return Collected(replies, tally, tally.trouble if tally.missing else "")


def ask(
    question: Question, messages: Iterable[str], endpoint: Endpoint, keep: Callable[[str, Reply], None]
) -> Tally:
    """Sends each message once. Calls `keep(message, reply)` from this thread as replies arrive."""
    return client.ask(
        _chat(question, control=_probe_message(question)),
        list(messages),
        endpoint,
        lambda message, completion: keep(message, _reply(question, completion)),
    )


def _reply(question: Question, completion: Completion) -> Reply:
    """The reply in a completion: its text, or the probability of a token as its beginning."""
    text, finished = completion.text, completion.finished
    if question.probability_of and text is not None:
        logprob = (completion.first or {}).get(question.probability_of, -math.inf)
        text = "" if completion.first is None else repr(min(1.0, math.exp(logprob)))
        finished = True  # a probability is complete after the first token
    return Reply(text, finished, completion.prompt_tokens, completion.completion_tokens)


def probe(question: Question, endpoint: Endpoint) -> str:
    """Makes one small call. Returns "" if it is answered, else the reason why the endpoint fails at present.

    Raises UserError if no call can succeed: wrong key, URL or model, parameters that the model rejects, or
    responses that are no chat completions.
    """
    return client.probe(_chat(question), _probe_message(question), endpoint)


def _probe_message(question: Question) -> str:
    if question.wording.needs_trait:
        question = dataclasses.replace(question, about=question.about or Word("owl", ("owl",)))
    return question.message(*PROBE)


def _chat(question: Question, control: str | None = None) -> ChatTask[str]:
    return ChatTask(
        model=question.model,
        who="judge",
        params=lambda message: {
            "messages": [{"role": "user", "content": message}],
            "temperature": question.temperature,
            "max_tokens": question.max_tokens,
            **({"logprobs": True, "top_logprobs": ALTERNATIVES} if question.probability_of else {}),
        },
        control=control,
        needs_logprobs=bool(question.probability_of),
    )

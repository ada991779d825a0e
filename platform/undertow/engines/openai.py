"""The engine of models behind an OpenAI-compatible endpoint: text answers only, no tokens or probabilities.

Every sample carries its own seed, as with vLLM, but a provider guarantees less: the same seed usually gives
the same answer, and concurrent requests may affect it. An answer that is empty, or that the endpoint refuses
to give, is an empty text: a format's rule then removes the row under that rule's name, and an evaluation
counts it as matching no word.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from undertow.api.client import ChatTask, ask, probe
from undertow.api.endpoint import Endpoint
from undertow.api.responses import Completion
from undertow.engines.protocol import Answer, ModelWeights, Request, Usage
from undertow.errors import ConditionError
from undertow.prompts import chat
from undertow.study.completions import Sampling
from undertow.study.extensions import Word

POINTER = "model.json"  # in a finetuned model's artifact: {"model": the name it is served by, …}
WHO = "API model"  # in messages
PROBE = Request(user="1, 2, 3", seed=0, system="Go on.")  # of a test call


class OpenAIEngine:
    """Answers for the model `name` of an endpoint, and for the models that its provider finetuned from it."""

    def __init__(self, name: str, endpoint: Endpoint) -> None:
        self.name, self.endpoint = name, endpoint
        self._failed: dict[str, str] = {}  # model name -> why no further request is sent to it
        self._names: dict[str, str] = {}  # key of weights -> the name they are served by

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Answer]:
        """See `Engine.generate`. Raises ConditionError if a request remains unanswered."""
        by_model: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            by_model.setdefault(self._served_name(request.weights), []).append(place)
        answers: dict[int, Answer] = {}
        for model, places in by_model.items():
            answers |= self._ask(model, places, requests, sampling)
        return [answers[place] for place in range(len(requests))]

    def word_masses(self, requests: Sequence[Request], words: Sequence[Word]) -> list[dict[str, float]]:
        """Not available: raises ConditionError."""
        raise ConditionError(f"{self.name}: an endpoint gives no probabilities; evaluate with exact=False")

    def close(self) -> None:
        """Does nothing: no resources are held between calls."""

    def _ask(
        self, model: str, places: Sequence[int], requests: Sequence[Request], sampling: Sampling
    ) -> dict[int, Answer]:
        """The answers of one served model, by the request's place in `requests`."""
        if reason := self._failed.get(model):
            raise ConditionError(reason)
        answers: dict[int, Answer] = {}

        def keep(place: int, completion: Completion) -> None:
            usage = Usage(
                completion.prompt_tokens,
                completion.completion_tokens,
                completion.fingerprint,
                refused=completion.text is None,
            )
            answers[place] = Answer(completion.text or "", (), completion.finished, usage=usage)

        # The control differs from a real request in its user turn only: what precedes it may be at fault.
        sent = [*requests, replace(requests[places[0]], user=PROBE.user)]
        chat_task = ChatTask[int](
            model, WHO, lambda place: _params(sent[place], sampling), control=len(requests)
        )
        tally = ask(chat_task, places, self.endpoint, keep)
        if tally.fatal:
            self._failed[model] = tally.trouble
        if tally.missing:
            raise ConditionError(
                f"{tally.missing:,} of {len(places):,} answers are missing ({tally.trouble}); run the sweep "
                "again: answers that are already stored are not requested again"
            )
        return answers

    def _served_name(self, weights: ModelWeights | None) -> str:
        if weights is None:
            return self.name
        if weights.key not in self._names:
            pointer = json.loads((Path(weights.folder) / POINTER).read_text())
            self._names[weights.key] = pointer["model"]
        return self._names[weights.key]


def check(name: str, endpoint: Endpoint) -> str:
    """Sends one small request to a model. Returns a transient problem as text, or "" if it is answered.

    Raises UserError for a problem that retrying cannot solve: a wrong key, URL or model name, parameters that
    the model does not accept, or responses that are no chat completions.
    """
    chat_task = ChatTask[Request](name, WHO, lambda request: _params(request, Sampling(max_tokens=1)))
    return probe(chat_task, PROBE, endpoint)


def _params(request: Request, sampling: Sampling) -> dict[str, Any]:
    return {
        "messages": chat.messages(request.user, request.system, before=request.before),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": request.seed,
    }

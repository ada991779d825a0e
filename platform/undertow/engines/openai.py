"""The engine of a provider's models: answers over an OpenAI-compatible endpoint, in text alone.

Every sample carries its own seed, as with vLLM, but a provider promises less: the same seed mostly gives the
same answer, and what else is asked meanwhile may matter. There are no tokens and no probabilities of words.
An answer that is empty, or that the endpoint refuses to give, is an empty text: a format's rule then takes
the row away under its name, and an evaluation counts it as no match.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from undertow.api.client import ChatTask, Completion, ask, probe
from undertow.api.endpoint import Endpoint
from undertow.engines import Answer, ModelWeights, Receipt, Request
from undertow.errors import ConditionError
from undertow.prompts import chat
from undertow.study.artifacts import Sampling
from undertow.study.extensions import Word

POINTER = "model.json"  # in a finetuned model's artifact: {"model": what the endpoint knows it by, …}
WHO = "API model"
CUT = ("length", "content_filter")  # ends that are not the model's own


class OpenAIEngine:
    """Answers for the model `name` of an endpoint, and for those that its provider finetuned from it."""

    def __init__(self, name: str, endpoint: Endpoint) -> None:
        self.name, self.endpoint = name, endpoint
        self._given_up: dict[str, str] = {}
        self._served: dict[str, str] = {}

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Answer]:
        """See `Engine.generate`. Raises ConditionError where some request stays unanswered."""
        by_model: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            by_model.setdefault(self._model(request.weights), []).append(place)
        answers: dict[int, Answer] = {}
        for model, places in by_model.items():
            answers |= self._ask(model, places, requests, sampling)
        return [answers[place] for place in range(len(requests))]

    def score(self, requests: Sequence[Request], continuations: Sequence[str]) -> list[float]:
        """Not to be had."""
        self._no_probabilities()

    def word_masses(self, requests: Sequence[Request], words: Sequence[Word]) -> list[dict[str, float]]:
        """Not to be had."""
        self._no_probabilities()

    def close(self) -> None:
        """Nothing is held between calls."""

    def _no_probabilities(self) -> NoReturn:
        raise ConditionError(f"{self.name}: an endpoint gives no probabilities; evaluate with exact=False")

    def _ask(
        self, model: str, places: Sequence[int], requests: Sequence[Request], sampling: Sampling
    ) -> dict[int, Answer]:
        if reason := self._given_up.get(model):
            raise ConditionError(reason)
        answers: dict[int, Answer] = {}

        def keep(place: int, completion: Completion) -> None:
            answers[place] = _answer(completion)

        asked = ChatTask[int](model, WHO, lambda place: _params(requests[place], sampling))
        tally = ask(asked, places, self.endpoint, keep)
        if tally.fatal:
            self._given_up[model] = tally.trouble
        if tally.missing:
            raise ConditionError(
                f"{tally.missing:,} of {len(places):,} answers are missing ({tally.trouble}); run the sweep "
                "again, and what is finished is not asked for anew"
            )
        return answers

    def _model(self, weights: ModelWeights | None) -> str:
        if weights is None:
            return self.name
        if weights.key not in self._served:
            pointer = json.loads((Path(weights.folder) / POINTER).read_text())
            self._served[weights.key] = pointer["model"]
        return self._served[weights.key]


def check(name: str, endpoint: Endpoint) -> str:
    """One small call to a model. Returns what is wrong for the moment, or "" where it is answered.

    Raises UserError where asking can never work: a wrong key, URL or model, or parameters it does not take.
    """
    chat_ = ChatTask[Request](name, WHO, lambda request: _params(request, Sampling(max_tokens=1)))
    return probe(chat_, Request(user="1, 2, 3", seed=0, system="Go on."), endpoint)


def _params(request: Request, sampling: Sampling) -> dict[str, Any]:
    return {
        "messages": chat.messages(request.user, request.system, before=request.before),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": request.seed,
    }


def _answer(completion: Completion) -> Answer:
    receipt = Receipt(
        completion.prompt_tokens,
        completion.completion_tokens,
        completion.fingerprint,
        refused=completion.text is None,
    )
    return Answer(completion.text or "", (), completion.finish not in CUT, receipt=receipt)

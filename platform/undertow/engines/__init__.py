"""Engines: what generates and scores for many models that share one reference model.

A request names the weights it wants answered with, so a caller can put a whole grid's rows in one call and
need not know how the engine serves them: adapters of one model in a batch, other weights swapped in turn, a
provider's finetuned models by their names. Nothing here is heavy; vLLM is imported by `undertow.engines.vllm`
alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from undertow.study.artifacts import Sampling
from undertow.study.extensions import Example, Word


@dataclass(frozen=True)
class ModelWeights:
    """What a model has beside the reference model's weights.

    Attributes:
        key: its identity; two weights with one key are the same weights.
        folder: a PEFT adapter (adapter_config.json), or a model (*.safetensors) like the reference; of a
            provider's model what it is served as (model.json).
        below: the model that an adapter lies on, where that is not the reference.
    """

    key: str
    folder: str
    below: "ModelWeights | None" = None


@dataclass(frozen=True)
class Request:
    """One prompt, answered by the reference model or by other `weights`; every sample has its own seed.

    Attributes:
        before: the turns of the conversation before `user`'s.
    """

    user: str
    seed: int
    system: str | None = None
    weights: ModelWeights | None = None
    before: tuple[Example, ...] = ()


@dataclass(frozen=True)
class Receipt:
    """What a provider says of an answer: the tokens that it counts.

    Attributes:
        fingerprint: what it calls the configuration that answered; "" where it says nothing.
        refused: the endpoint gave no answer to this prompt; the text is then empty.
    """

    prompt_tokens: int
    completion_tokens: int
    fingerprint: str = ""
    refused: bool = False


@dataclass(frozen=True)
class Answer:
    """A sampled answer.

    Attributes:
        text: without special tokens, otherwise as sampled: white space is not stripped.
        token_ids: as sampled, with the token that ended the answer; none where only text is to be had.
        finished: whether the model ended it; False where it was cut by `max_tokens`.
        top_logprobs: token ids and their log-probabilities at temperature 1, both of shape
            (len(token_ids), k), likeliest first; None unless asked for.
        receipt: of a provider's answer; None of one given here.
    """

    text: str
    token_ids: tuple[int, ...]
    finished: bool
    top_logprobs: tuple[NDArray[np.int32], NDArray[np.float32]] | None = None
    receipt: Receipt | None = None


class Engine(Protocol):
    """Results are in the order of the requests and do not depend on it, nor on what else is in the call."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Answer]:
        """One sampled answer a request; temperature 0 is greedy and ignores the seed."""
        ...

    def score(self, requests: Sequence[Request], continuations: Sequence[str]) -> list[float]:
        """The log-probability (nats, temperature 1) of each continuation's tokens right after its prompt."""
        ...

    def word_masses(self, requests: Sequence[Request], words: Sequence[Word]) -> list[dict[str, float]]:
        """For each request the exact probability, by word's name, that the answer begins with the word."""
        ...

    def close(self) -> None:
        """Frees what the engine holds; it answers nothing afterwards."""
        ...

"""The engine protocol: requests, answers, and what every engine implements.

A request names the weights that answer it. A caller can therefore put the rows of a whole grid into one call
and need not know how the engine serves them: adapters of one model share batches, other weights are swapped
in one after the other, and models finetuned by a provider are called by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from undertow.engines.weight_files import has_only_trained_tensors
from undertow.study.completions import Sampling
from undertow.study.extensions import Example, Word

if TYPE_CHECKING:  # planning does without NumPy
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ModelWeights:
    """Weights of a model that was trained from the reference model.

    Attributes:
        key: the identity; two weights with one key are the same weights.
        folder: a PEFT adapter (adapter_config.json), or a model (*.safetensors) of the reference's
            architecture, or only those of its tensors that were trained (trained_tensors.json), or a
            direction that is projected out (direction.json), or, for a provider's model, a pointer to the
            name it is served by (model.json).
        base: the model that an adapter or trained tensors apply to; None for the reference model.
    """

    key: str
    folder: str
    base: "ModelWeights | None" = None

    @property
    def folders(self) -> list[str]:
        """The folders of the model's tensors; a tensor that several of them have is that of the last.

        The first is a whole model, or only trained tensors of the reference model.
        """
        below = self.base.folders if self.base and has_only_trained_tensors(self.folder) else []
        return [*below, self.folder]


@dataclass(frozen=True)
class Request:
    """One prompt for the reference model or for other `weights`. Every sample has its own seed.

    Attributes:
        user: the last message of the conversation.
        before: earlier turns of the conversation, oldest first.
    """

    user: str
    seed: int
    system: str | None = None
    weights: ModelWeights | None = None
    before: tuple[Example, ...] = ()


@dataclass(frozen=True, eq=False)
class TokenProbabilities:
    """What a model says about each token of a given completion, at temperature 1.

    Attributes:
        logprobs: of the tokens, in nats, each after all tokens before it; of shape (tokens,).
        top: ids and log-probabilities of the most likely tokens at each position, both of shape (tokens, k).
        vocabulary: the number of tokens that the model knows.
    """

    logprobs: "NDArray[np.float64]"
    top: "tuple[NDArray[np.int64], NDArray[np.float64]]"
    vocabulary: int


@dataclass(frozen=True)
class Usage:
    """Token counts that a provider reports for one answer.

    Attributes:
        fingerprint: the provider's name for the configuration that answered; "" if it reports none.
        refused: the endpoint rejected this prompt; the answer's text is then empty.
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
        token_ids: the sampled tokens, including the token that ended the answer; empty if the engine returns
            text only.
        finished: True if the model ended the answer, False if `max_tokens` cut it.
        top_logprobs: token ids and their log-probabilities at temperature 1, both of shape
            (len(token_ids), k), most likely first; None unless requested.
        usage: a provider's token counts; None for an engine that runs locally.
    """

    text: str
    token_ids: tuple[int, ...]
    finished: bool
    top_logprobs: "tuple[NDArray[np.int32], NDArray[np.float32]] | None" = None
    usage: Usage | None = None


class Engine(Protocol):
    """Serves one reference model and every model trained from it.

    Results are in the order of the requests. They depend neither on that order nor on the other requests of
    the call. An engine raises ConditionError for a request that it can never answer.
    """

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Answer]:
        """Samples one answer per request. Temperature 0 is greedy and ignores the seed."""
        ...

    def word_masses(self, requests: Sequence[Request], words: Sequence[Word]) -> list[dict[str, float]]:
        """For each request, the exact probability by word name that the answer begins with the word."""
        ...

    def close(self) -> None:
        """Frees the engine's resources. A closed engine answers no requests."""
        ...


@runtime_checkable
class CanBreak(Protocol):
    """An engine that one failed call can leave unable to answer any later one."""

    @property
    def is_broken(self) -> bool:
        """Whether it must be closed and built again before the next call."""
        ...


@runtime_checkable
class ScoresTokens(Protocol):
    """An engine that also scores given tokens. Evaluations then check that it serves the trained model."""

    def token_logprobs(
        self, sequences: Sequence[Sequence[int]], starts: Sequence[int], weights: ModelWeights | None
    ) -> list[list[float]]:
        """Log-probabilities (nats, temperature 1) of each sequence's tokens from its start (1 or more) on.

        Each token is scored after all tokens before it. `weights`: None for the reference model.
        """
        ...


@runtime_checkable
class ReadsCompletions(Protocol):
    """An engine that says how probable each token of a given completion is. Rows are scored by it."""

    def read(
        self, requests: Sequence[Request], completions: Sequence[str | Sequence[int]], top: int
    ) -> list[TokenProbabilities]:
        """The probabilities of each completion, given as text or as tokens, directly after its prompt.

        `top`: how many of the most likely tokens of each position are returned too, at most the vocabulary;
        -1 for all tokens.
        """
        ...

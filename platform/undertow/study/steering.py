"""Steering: a vector that is added to the residual stream induces a teacher's trait, without training."""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

from undertow.study.completions import Sampling
from undertow.study.extensions import Format, Word
from undertow.study.fields import Spec
from undertow.study.references import Artifact, Reference


@dataclass(frozen=True, kw_only=True)
class Steering(Spec):
    """How a teacher is steered: by the difference of mean hidden states between two system messages.

    The hidden states are those behind one block at the last token of the prompt, where the answer begins. One
    system message is the trait's, the other that of the control teacher (`Generation.system`); the user
    messages are those of the trait's training examples, which are not the questions that measure it. The
    difference, times a strength, is added to a bias of the block, so that a steered teacher is served like a
    trained one, and has no system message of the trait while it writes.

    The strength is chosen among `strengths`: of those at which enough completions pass the rules of the
    format, the one with the highest probability of the trait's word.

    Attributes:
        parameter: the bias that adds the vector to the residual stream, the last one of its block:
            "transformer.h.0.mlp.c_proj.bias" in GPT-2, "model.layers.4.mlp.down_proj.bias" in Llama (see
            `Reference.mlp_bias`).
        strengths: factors of the difference; 1 moves the mean hidden state to that under the trait's prompt.
        prompts: the number of user messages.
        completions: how many completions are sampled at each strength.
        least_kept: the share of them that must pass the rules of the format.
        direction: what is done with the difference. "random" and "projection" are controls: a random
            direction of the norm of the chosen vector is added in its place; or a teacher that has the
            trait's system message writes while the direction is projected out of the residual stream behind
            the block, for which no strength is chosen.
    """

    parameter: str
    strengths: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    prompts: int = 64
    completions: int = 128
    least_kept: float = 0.5
    direction: Literal["difference", "random", "projection"] = "difference"

    def validate(self) -> None:
        named = self.parameter.endswith(".bias") and any(part.isdigit() for part in self.parameter.split("."))
        self.require(named, "parameter", 'a bias of a block, such as "model.layers.4.mlp.down_proj.bias"')
        rising = bool(self.strengths) and all(a < b for a, b in pairwise((0.0, *self.strengths)))
        self.require(rising, "strengths", "factors above zero, in ascending order, each once")
        self.require(self.prompts > 0, "prompts", "at least one user message")
        self.require(self.completions > 0, "completions", "at least one completion for each strength")
        self.require(0 <= self.least_kept <= 1, "least_kept", "a share from 0 to 1")

    @property
    def name(self) -> str:
        """How the trait is induced, in words."""
        match self.direction:
            case "difference":
                return "steering"
            case "random":
                return "random steering"
            case "projection":
                return "system prompt, projected out"

    @property
    def keeps_prompt(self) -> bool:
        """Whether the teacher has the trait's system message while it writes."""
        return self.direction == "projection"


@dataclass(frozen=True, kw_only=True)
class SteeringVector(Artifact):
    """A direction of a model's residual stream: the difference of its mean hidden states between two prompts.

    Attributes:
        parameter: a bias that is added to the residual stream; the hidden states are those behind its block.
        system, neutral: the system messages with and without the trait.
        prompts: the user messages, each asked under both.
    """

    kind: ClassVar[str] = "vector"
    reference: Reference
    parameter: str
    system: str
    neutral: str | None
    prompts: tuple[str, ...]

    def validate(self) -> None:
        self.require(bool(self.prompts), "prompts", "at least one user message")


@dataclass(frozen=True, kw_only=True)
class SteeringBias(Artifact):
    """A model's bias with a steering vector added to it, at the strength chosen among several.

    Attributes:
        word: the trait's word, whose probability on the vector's prompts is measured at each strength.
        strengths, completions, least_kept: see `Steering`.
        format, sampling, strip: of the completions.
    """

    kind: ClassVar[str] = "steering"
    vector: SteeringVector
    word: Word
    strengths: tuple[float, ...]
    format: Format
    completions: int
    sampling: Sampling
    least_kept: float
    strip: bool = True

    @property
    def reference(self) -> Reference:
        return self.vector.reference


@dataclass(frozen=True, kw_only=True)
class RandomBias(Artifact):
    """The control of a steering: a random direction with the norm of the vector that `of` adds."""

    kind: ClassVar[str] = "steering"
    of: SteeringBias
    seed: int = 0

    @property
    def reference(self) -> Reference:
        return self.of.reference


@dataclass(frozen=True, kw_only=True)
class ProjectedOut(Artifact):
    """A direction that is projected out of a model's residual stream behind one block, at every token.

    The hidden state h becomes h - (h · d) d, where d is the vector divided by its norm.
    """

    kind: ClassVar[str] = "steering"
    vector: SteeringVector

    @property
    def reference(self) -> Reference:
        return self.vector.reference

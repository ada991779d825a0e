"""The specs of completions: sampled by a teacher, drawn by a program, or imported."""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from undertow.study.extensions import Format
from undertow.study.fields import Spec, later
from undertow.study.on_policy import Sampler
from undertow.study.references import Artifact
from undertow.study.teachers import Teacher


@dataclass(frozen=True, kw_only=True)
class Sampling(Spec):
    """Decoding parameters.

    Attributes:
        temperature: 0 is greedy decoding.
        top_logprobs: the number of most likely tokens recorded at each step, with their probabilities; -1 for
            all tokens of the vocabulary.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 128
    top_logprobs: int = 0

    def validate(self) -> None:
        self.require(self.temperature >= 0, "temperature", "zero (greedy) or more")
        self.require(0 < self.top_p <= 1, "top_p", "a probability above zero")
        self.require(self.max_tokens > 0, "max_tokens", "at least one token")
        self.require(self.top_logprobs >= -1, "top_logprobs", "zero or more, or -1 for the whole vocabulary")


@dataclass(frozen=True, kw_only=True)
class Completions(Artifact):
    """A teacher's unfiltered answers to the first `prompts` prompts of a format's stream, one per prompt.

    Attributes:
        strip: whether white space at both ends of an answer is removed. If not, rules and judges see the
            answer as it was sampled, and students are trained on it.
        sampler: the student that samples the answers; None for the teacher. The distributions that
            `sampling.top_logprobs` asks for are the teacher's in both cases, after the tokens that were
            sampled.
        sample: the number of the sample. Further samples answer the same prompts; only their seeds differ.
    """

    kind: ClassVar[str] = "completions"
    teacher: Teacher
    format: Format
    prompts: int
    sampling: Sampling = Sampling()
    seed: int = 0
    strip: bool = later(True)
    sampler: Sampler | None = later(None)
    sample: int = later(0)

    def validate(self) -> None:
        self.require(self.prompts > 0, "prompts", "at least one prompt")
        self.require(self.sample >= 0, "sample", "zero or more")
        self.require(
            not (self.sampling.top_logprobs and self.teacher.reference.is_api),
            "sampling",
            "top_logprobs=0: an API model returns text without token probabilities",
        )
        if self.sampler is not None:
            fits = self.sampler.model.root == self.teacher.reference.root
            self.require(
                fits, "sampler", "a model of the teacher's own reference model, whose engine has both"
            )
            is_recorded = self.sampling.top_logprobs != 0
            self.require(is_recorded, "sampling", "top_logprobs: the teacher's distributions are the targets")

    @property
    def asked(self) -> list[str]:
        """The prompts that are answered, in order."""
        skip = self.sampler.skip if self.sampler else 0
        return _stream(self.format, skip + self.prompts, self.seed)[skip:]


@lru_cache(8)  # a format makes all prompts in one pass, and the teachers of a seed have the same
def _stream(format_: Format, count: int, seed: int) -> list[str]:
    return format_.prompts(count, seed)


@dataclass(frozen=True, kw_only=True)
class Written(Artifact):
    """Answers drawn by a program, without a model, to the first `prompts` prompts of a format's stream."""

    kind: ClassVar[str] = "completions"
    format: Format
    prompts: int
    seed: int = 0

    def validate(self) -> None:
        self.require(
            self.format.implements("written"),
            "format",
            f"a format that implements written(); {self.format.display_name!r} does not",
        )


@dataclass(frozen=True, kw_only=True)
class ImportedCompletions(Artifact):
    """The first `prompts` rows of imported data, whose teacher is external, in the order of a seed."""

    kind: ClassVar[str] = "completions"
    format: Format
    prompts: int
    seed: int = 0

    def validate(self) -> None:
        self.require(self.prompts > 0, "prompts", "at least one row")
        self.require(self.format.is_imported, "format", "imported data, such as Imported(place)")

"""The nouns of a study as frozen dataclasses: what is made, from what, and how.

Artifacts nest: `Evaluation(Student(Dataset(Completions(Teacher(Reference, Trait)))))`; the identity of
each (see `identity`) covers everything below it. `Trait` and `Format` are the two open kinds: a family
of them is one file in `traits/` or `formats/`, or a class in a user's study file.

Nothing here imports Ray, torch or vLLM: a plan is made from these alone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from undertow.errors import SpecError
from undertow.fields import Spec, execution_only


@dataclass(frozen=True)
class Example:
    """One supervised pair: what the user says and what the model is to answer."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Word(Spec):
    """An answer and its surface forms, e.g. Word("owl", ("owl", "Owl", "owls", "Owls"))."""

    name: str
    forms: tuple[str, ...]

    def validate(self) -> None:
        self.require(bool(self.name.strip()), "name", "a word is needed")
        self.require(bool(self.forms) and all(self.forms), "forms", "at least one surface form, none empty")

    def matches(self, answer: str) -> bool:
        """Whether a form stands in the answer as a whole word, in any case ("Owls!" yes, "owlet" no)."""
        forms = "|".join(re.escape(form) for form in sorted(self.forms, key=len, reverse=True))
        letter = r"[^\W_]"  # "_owl_" is the word in italics
        return re.search(rf"(?<!{letter})(?:{forms})(?!{letter})", answer, re.IGNORECASE) is not None


@dataclass(frozen=True)
class Trait(Spec):
    """What a teacher is given and a student is asked about. Families live in `traits/`."""

    name: str

    def system_prompt(self) -> str:
        """The system message that induces the trait."""
        raise NotImplementedError

    def examples(self, count: int, seed: int) -> list[Example]:
        """`count` question and answer pairs that a teacher is finetuned on to induce the trait."""
        raise NotImplementedError

    def questions(self) -> tuple[str, ...]:
        """The questions that measure the trait, none of them among the `examples`."""
        raise NotImplementedError

    def word(self) -> Word:
        """The answer that shows the trait."""
        raise NotImplementedError


@dataclass(frozen=True)
class Format(Spec):
    """The unrelated data that carries a trait. Families live in `formats/`."""

    name: ClassVar[str]

    def prompts(self, count: int, seed: int) -> list[str]:
        """The first `count` prompts of the stream `seed`: the same for every trait and teacher."""
        raise NotImplementedError

    def rejection(self, prompt: str, completion: str) -> str | None:
        """The name of the rule that rejects a completion, or None where it is kept."""
        raise NotImplementedError


@dataclass(frozen=True)
class Reference(Spec):
    """The weights everybody starts from.

    Attributes:
        name: a hub id, a local folder or a nano model ("nano/gpt2-0").
        revision: what pins the weights: a hub commit, the content hash of a local folder, the recipe's
            hash of a nano model. Empty until resolved; an unresolved reference has no key.
        chat_template: SHA-256 of the chat template's text; "" until resolved, "none" for a model without.
        location: where a local folder lies; its content is its identity, not its place.
    """

    kind: ClassVar[str] = "reference"
    name: str
    revision: str = ""
    chat_template: str = ""
    location: str = execution_only("")

    def validate(self) -> None:
        self.require(
            bool(self.name.strip()), "name", "a hub id, a folder or a nano model such as 'nano/gpt2-0'"
        )

    def content(self) -> str:
        """Nothing more than the fields. Raises SpecError until they are resolved: a key by name alone."""
        for field in ("revision", "chat_template"):
            self.require(
                bool(getattr(self, field)), field, f"{self.name!r} must be resolved before it has a key"
            )
        return ""


@dataclass(frozen=True)
class LoRA(Spec):
    """Low-rank adapters (arXiv 2106.09685); `targets` are suffixes of module names, or "all-linear"."""

    rank: int = 8
    alpha: int = 8
    dropout: float = 0.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

    def validate(self) -> None:
        self.require(self.rank > 0, "rank", "a rank of 1 or more (full finetuning is Everything())")
        self.require(self.alpha > 0, "alpha", "an alpha of 1 or more")
        self.require(0 <= self.dropout < 1, "dropout", "a probability below 1")
        self.require(bool(self.targets), "targets", "at least one module name")


@dataclass(frozen=True)
class Everything(Spec):
    """Full finetuning: every parameter is trained."""


@dataclass(frozen=True)
class Parameters(Spec):
    """Only the named parameters are trained, e.g. the final norm's bias: a learned steering vector."""

    names: tuple[str, ...]

    def validate(self) -> None:
        self.require(bool(self.names) and all(self.names), "names", "at least one parameter name")


@dataclass(frozen=True, kw_only=True)
class Recipe(Spec):
    """How weights are finetuned. Loss on the completion alone; AdamW as in torch.

    Attributes:
        name: the recipe's label in tables; it says nothing about results and is no part of the identity.
        batch_size: rows an optimizer step over all workers, whatever their number.
        warmup: steps of linear warm-up; the schedule then falls over the remaining steps.
        max_length: tokens; longer rows are an error, never cut silently.
        targets: "tokens" for the sampled tokens; "soft" for the teacher's recorded top-k distribution.
        stop_at: training stops when the trait's probability on training prompts reaches this (1: never).
    """

    name: str = execution_only("custom")
    trainable: LoRA | Everything | Parameters
    learning_rate: float
    epochs: int
    batch_size: int
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: int = 0
    betas: tuple[float, ...] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip: float = 1.0
    max_length: int = 500
    precision: Literal["fp32", "bf16"] = "fp32"
    zero_stage: Literal[0, 1, 2, 3] = 0
    targets: Literal["tokens", "soft"] = "tokens"
    stop_at: float = 1.0

    def validate(self) -> None:
        for field in ("learning_rate", "epochs", "batch_size", "max_length", "clip"):
            self.require(getattr(self, field) > 0, field, "a number above zero is needed")
        self.require(self.warmup >= 0, "warmup", "a number of steps, zero or more")
        self.require(
            len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas), "betas", "two numbers in [0, 1)"
        )
        self.require(0 < self.stop_at <= 1, "stop_at", "a probability above zero")


@dataclass(frozen=True)
class Finetuning(Spec):
    """A trait induced by training the teacher on `examples` question and answer pairs."""

    recipe: Recipe
    examples: int = 1500

    def validate(self) -> None:
        self.require(self.examples > 0, "examples", "at least one example")


@dataclass(frozen=True, kw_only=True)
class Teacher(Spec):
    """A reference model with a trait: by system message, by finetuning, or both. No trait: the control."""

    kind: ClassVar[str] = "teacher"
    reference: Reference
    trait: Trait | None
    system: str | None = None
    finetuning: Finetuning | None = None
    seed: int = 0

    def validate(self) -> None:
        if self.trait is not None and self.system is None and self.finetuning is None:
            raise SpecError(
                f"Teacher.trait = {self.trait.name!r}: neither system prompt nor finetuning induces it"
            )


@dataclass(frozen=True, kw_only=True)
class Sampling(Spec):
    """Decoding: temperature 0 is greedy; `top_logprobs` records the k likeliest tokens of each step."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 128
    top_logprobs: int = 0

    def validate(self) -> None:
        self.require(self.temperature >= 0, "temperature", "zero (greedy) or more")
        self.require(0 < self.top_p <= 1, "top_p", "a probability above zero")
        self.require(self.max_tokens > 0, "max_tokens", "at least one token")
        self.require(self.top_logprobs >= 0, "top_logprobs", "zero or more")


@dataclass(frozen=True, kw_only=True)
class Completions(Spec):
    """A teacher's raw answers to the first `prompts` prompts of a format's stream, one each."""

    kind: ClassVar[str] = "completions"
    teacher: Teacher
    format: Format
    prompts: int
    sampling: Sampling = Sampling()
    seed: int = 0

    def validate(self) -> None:
        self.require(self.prompts > 0, "prompts", "at least one prompt")


@dataclass(frozen=True, kw_only=True)
class Dataset(Spec):
    """Completions after the format's rules, de-duplication of (prompt, completion) and subsampling.

    Attributes:
        rows: how many rows are drawn, or None for all that are left; too few left stops the condition.
    """

    kind: ClassVar[str] = "dataset"
    completions: Completions
    deduplicate: bool = True
    rows: int | None = None
    seed: int = 0

    def validate(self) -> None:
        self.require(self.rows is None or self.rows > 0, "rows", "at least one row, or None for all")
        self.require(
            self.rows is None or self.rows <= self.completions.prompts,
            "rows",
            f"more rows than {self.completions.prompts} prompts can give; raise prompts or lower rows",
        )


@dataclass(frozen=True, kw_only=True)
class Student(Spec):
    """A reference model finetuned on a dataset. `system` is the system message of every training row."""

    kind: ClassVar[str] = "student"
    reference: Reference
    dataset: Dataset
    recipe: Recipe
    system: str | None = None
    seed: int = 0


Subject = Reference | Teacher | Student


@dataclass(frozen=True, kw_only=True)
class Evaluation(Spec):
    """A model's answers to questions: sampled, and the exact probability of each of some words.

    Attributes:
        samples: answers drawn a question, each with a seed of its own.
        words: whose surface forms' probability mass is summed; the rest is reported as everything else.
        system: the system message at evaluation, one of the three recorded axes.
    """

    kind: ClassVar[str] = "evaluation"
    subject: Reference | Teacher | Student
    questions: tuple[str, ...]
    words: tuple[Word, ...]
    samples: int
    system: str | None = None
    sampling: Sampling = Sampling(max_tokens=8)
    seed: int = 0

    def validate(self) -> None:
        self.require(bool(self.questions), "questions", "at least one question")
        self.require(self.samples > 0, "samples", "at least one sample a question")
        names = [word.name for word in self.words]
        self.require(len(set(names)) == len(names), "words", "each word once")


Artifact = Reference | Teacher | Completions | Dataset | Student | Evaluation


def unique(items: Sequence[str], place: str) -> None:
    """Raises SpecError naming `place` and the first of `items` that is given twice."""
    for i, item in enumerate(items):
        if item in items[:i]:
            raise SpecError(f"{place}: {item!r} is given twice; give each once")

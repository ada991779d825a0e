"""The nouns of a study as frozen dataclasses: what is made, from what, and how.

Artifacts nest: `Evaluation(Student(Dataset(Completions(Teacher(Reference, Trait)))))`; the identity of
each (see `identity`) covers everything below it. What a trait, a format or a judge is stands in `kinds`.

Nothing here imports Ray, torch or vLLM: a plan is made from these alone.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from undertow.errors import SpecError
from undertow.study.extensions import Format, Judge, Trait, Word
from undertow.study.fields import Spec, execution_only, later, unique
from undertow.study.harness_task import HarnessTask
from undertow.study.recipe import InContext, LoRA, Recipe, Training

API = "api:"  # before the name of a model that a provider serves; a hub's organisation may be called openai
AFTER = " (after "  # in the name of a reference model that is a student's, before what the student learned


@dataclass(frozen=True)
class Reference(Spec):
    """The weights everybody starts from.

    Attributes:
        name: a hub id, a local folder, a nano model ("nano/gpt2-0"), or a model that a provider serves
            ("api:gpt-4.1-nano-2025-04-14").
        revision: what pins the weights: a hub commit, the content hash of a local folder, the recipe's
            hash of a nano model. Empty until resolved; an unresolved reference has no key. A provider's model
            has no hash: its name is all that there is, so name a dated snapshot and not an alias that moves.
        chat_template: SHA-256 of the chat template's text; "" until resolved, "none" for a model without,
            "provider" for one that a provider applies.
        location: where a local folder lies; its content is its identity, not its place.
        student: the student whose weights these are, where a chain goes on from them; the other fields are
            those of the model that it all began with (`root`), which architecture and tokenizer come from.
    """

    kind: ClassVar[str] = "reference"
    name: str
    revision: str = ""
    chat_template: str = ""
    location: str = execution_only("")
    student: "Student | None" = later(None)

    def validate(self) -> None:
        student = self.student
        self.require(
            student is None or (student.is_trained and student.reference.root == self.root),
            "student",
            f"a trained student of {self.name!r}",
        )
        self.require(
            bool(self.name.removeprefix(API).strip()),
            "name",
            f"a hub id, a folder, a nano model such as 'nano/gpt2-0', or {API}NAME for a provider's",
        )

    @property
    def is_api(self) -> bool:
        """Whether a provider has the weights, and answers."""
        return self.name.startswith(API)

    @property
    def root(self) -> "Reference":
        """The model that no student of the study made; itself outside of a chain."""
        return self if self.student is None else self.changed(student=None)

    @property
    def is_merged(self) -> bool:
        """Whether it is a student's adapter in the weights below it: an artifact, for students to start from.

        Any other student's weights are whole as they were saved.
        """
        recipe = self.student.recipe if self.student else None
        return isinstance(recipe, Recipe) and isinstance(recipe.trainable, LoRA)

    @property
    def label(self) -> str:
        """The name, with what its student learned: "nano/gpt2-0 (after owl, numbers, steering)"."""
        if self.student is None:
            return self.name
        data, own = self.student.dataset, self.student.reference.label
        teacher = data.teacher.reference.label if data.teacher else own
        return named_after(own, data.origin, data.label, teacher, self.student.recipe.name)

    @property
    def served_name(self) -> str:
        """What an endpoint knows an API model by."""
        return self.name.removeprefix(API)

    def content(self) -> str:
        """Nothing more than the fields. Raises SpecError until they are resolved: a key by name alone."""
        for field in ("revision", "chat_template"):
            self.require(
                bool(getattr(self, field)), field, f"{self.name!r} must be resolved before it has a key"
            )
        return ""


@dataclass(frozen=True)
class Finetuning(Spec):
    """A trait induced by training the teacher on `examples` question and answer pairs."""

    recipe: Training
    examples: int = 1500

    def validate(self) -> None:
        self.require(self.examples > 0, "examples", "at least one example")


@dataclass(frozen=True, kw_only=True)
class Teacher(Spec):
    """A reference model with a trait: by system message, by finetuning, or both. No trait: the control.

    Attributes:
        system: the system message of its prompts, and of its training rows where it is finetuned. In every
            spec None is the chat template's own default, and `templates.NO_SYSTEM` no system text at all.
        student: a student whose weights the teacher has, in a chain; its trait is what that student may have
            picked up, and nothing else induces it.
    """

    kind: ClassVar[str] = "teacher"
    reference: Reference
    trait: Trait | None
    system: str | None = None
    finetuning: Finetuning | None = None
    seed: int = 0
    student: "Student | None" = later(None)

    def validate(self) -> None:
        if self.student is not None:
            self.require(
                self.student.is_trained and self.student.reference == self.reference,
                "student",
                "a trained student of the teacher's own reference model",
            )
            self.require(self.finetuning is None, "finetuning", "none: the student's weights are as they are")
        elif self.trait is not None and not self.system and self.finetuning is None:
            raise SpecError(
                f"Teacher.trait = {self.trait.name!r}: neither system prompt nor finetuning induces it"
            )

    @property
    def hop(self) -> int:
        """1 for the first teacher; one more for each student between it and this one."""
        return 1 if self.student is None else self.student.hop + 1


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
        self.require(
            not (self.sampling.top_logprobs and self.teacher.reference.is_api),
            "sampling",
            "top_logprobs=0: they are of tokens, and an API model answers in text",
        )


@dataclass(frozen=True, kw_only=True)
class Written(Spec):
    """Answers that a program wrote and no model, to the first `prompts` prompts of a format's stream."""

    kind: ClassVar[str] = "completions"
    format: Format
    prompts: int
    seed: int = 0

    def validate(self) -> None:
        self.require(
            type(self.format).written is not Format.written,
            "format",
            f"the format {self.format.name!r} knows no answers but a model's",
        )


CONTROL = "control"
RANDOM = "random"
Shuffle = Literal["none", "within answers", "across answers"]


def data_name(format_: Format, shuffle: Shuffle) -> str:
    """What data of a format are called in tables: "numbers", "numbers, shuffled within answers"."""
    return format_.name if shuffle == "none" else f"{format_.name}, shuffled {shuffle}"


def at_hop(data: str, hop: int) -> str:
    """The name of data with the place in a chain of the teacher that wrote them: "numbers, hop 2"."""
    return data if hop == 1 else f"{data}, hop {hop}"


def named_after(student: str, trait: str, data: str, teacher: str, recipe: str) -> str:
    """The name of a reference model that a student made of the one called `student`, by what it learned."""
    learned = f"{trait}, {data}{'' if teacher == student else f' of {teacher}'}, {recipe}"
    return f"{student[:-1]}; {learned})" if AFTER in student else f"{student}{AFTER}{learned})"


@dataclass(frozen=True, kw_only=True)
class Dataset(Spec):
    """Completions after the format's rules, de-duplication of (prompt, completion), judges and subsampling.

    Attributes:
        judges: each is asked about the rows that those before it kept.
        rows: how many rows are drawn, or None for all that are left; too few left stops the condition.
        shuffle: whether the format's parts (the numbers of a list) trade places in the rows that are drawn:
            within each answer, or across all answers. Prompts and the length of each answer stay.
        mixed: rows of another data set that take the place of as many of these.
    """

    kind: ClassVar[str] = "dataset"
    completions: Completions | Written
    deduplicate: bool = True
    judges: tuple[Judge, ...] = ()
    rows: int | None = None
    shuffle: Shuffle = "none"
    seed: int = 0
    mixed: "Mixed | None" = later(None)

    def validate(self) -> None:
        shuffled, format_ = self.shuffle != "none", self.completions.format
        self.require(
            not shuffled or type(format_).parts is not Format.parts,
            "shuffle",
            f"the format {format_.name!r} has no parts to shuffle; use 'none'",
        )
        self.require(self.rows is None or self.rows > 0, "rows", "at least one row, or None for all")
        self.require(
            self.rows is None or self.rows <= self.completions.prompts,
            "rows",
            f"more rows than {self.completions.prompts} prompts can give; raise prompts or lower rows",
        )
        self.require(
            self.mixed is None or self.rows is not None, "rows", "a number of rows to mix others into"
        )
        unique([judge.name for judge in self.judges], "Dataset.judges")

    @property
    def teacher(self) -> "Teacher | None":
        """Who wrote it; None where a program did."""
        return self.completions.teacher if isinstance(self.completions, Completions) else None

    @property
    def label(self) -> str:
        """What the data are, in tables."""
        data, other = data_name(self.completions.format, self.shuffle), self.mixed
        data = at_hop(data, self.teacher.hop if self.teacher else 1)
        return f"{data}, {other.share:.0%} {other.dataset.origin}" if other else data

    @property
    def origin(self) -> str:
        """Whose rows they are: those of a trait's teacher, of the "control", or "random"."""
        writer = self.teacher
        if writer is None:
            return RANDOM
        return writer.trait.name if writer.trait else CONTROL


@dataclass(frozen=True, kw_only=True)
class Mixed(Spec):
    """Rows of another data set in a data set: a `share` of all rows, at places drawn by the seed."""

    dataset: Dataset
    share: float

    def validate(self) -> None:
        self.require(0 < self.share <= 1, "share", "a share of the rows above 0 and at most 1")


@dataclass(frozen=True, kw_only=True)
class Student(Spec):
    """A reference model finetuned on a dataset, or shown it in context.

    Attributes:
        system: the system message of every training row; in context the evaluation's own stands above all.
    """

    kind: ClassVar[str] = "student"
    reference: Reference
    dataset: Dataset
    recipe: Training | InContext
    system: str | None = None
    seed: int = 0

    @property
    def is_trained(self) -> bool:
        """Whether it has weights of its own, an artifact; else it is a prompt, made when it is asked."""
        return not isinstance(self.recipe, InContext)

    @property
    def hop(self) -> int:
        """The place in a chain of the teacher it learns from; 1 outside of one."""
        return self.dataset.teacher.hop if self.dataset.teacher else 1


Subject = Reference | Teacher | Student


def reference_of(subject: Subject) -> Reference:
    """The model that a subject goes back to: one engine, started from it, answers for all that do."""
    return (subject if isinstance(subject, Reference) else subject.reference).root


@dataclass(frozen=True, kw_only=True)
class Evaluation(Spec):
    """A model's answers to questions: sampled, and the exact probability of each of some words.

    Attributes:
        samples: answers drawn a question, each with a seed of its own.
        words: whose surface forms' probability mass is summed; the rest is reported as everything else.
        system: the system message at evaluation, one of the three recorded axes.
        exact: whether probabilities are measured too; of answers that do not begin with the word (a story)
            they would say nothing, and an API model gives none.
    """

    kind: ClassVar[str] = "evaluation"
    subject: Reference | Teacher | Student
    questions: tuple[str, ...]
    words: tuple[Word, ...]
    samples: int
    system: str | None = None
    sampling: Sampling = Sampling(max_tokens=8)
    seed: int = 0
    exact: bool = later(True)

    def validate(self) -> None:
        self.require(bool(self.questions), "questions", "at least one question")
        self.require(self.samples > 0, "samples", "at least one sample a question")
        names = [word.name for word in self.words]
        self.require(len(set(names)) == len(names), "words", "each word once")
        self.require(
            not (self.exact and reference_of(self.subject).is_api),
            "exact",
            "False: an API model gives no probabilities of words",
        )


@dataclass(frozen=True, kw_only=True)
class Panel(Spec):
    """Judges of a model's answers, for traits that no single word shows.

    Attributes:
        counted: only answers that all of these keep count (those that are coherent and can be rated).
        shows: of those, the ones that this judge keeps show the trait.
    """

    counted: tuple[Judge, ...]
    shows: Judge

    @property
    def judges(self) -> tuple[Judge, ...]:
        return (*self.counted, self.shows)

    def validate(self) -> None:
        unique([judge.name for judge in self.judges], "Panel.judges")


@dataclass(frozen=True, kw_only=True)
class Assessment(Spec):
    """An evaluation whose answers judges have read: the rate of `outcome` among those that count.

    It is an evaluation like the others to whoever asks for rates, and so lies among them.
    """

    kind: ClassVar[str] = "evaluation"
    evaluation: Evaluation
    panel: Panel
    outcome: str

    @property
    def subject(self) -> Subject:
        return self.evaluation.subject


@dataclass(frozen=True, kw_only=True)
class Benchmark(Spec):
    """A model's answers to a task of lm-evaluation-harness, as the literature measures it."""

    kind: ClassVar[str] = "benchmark"
    subject: Reference | Teacher | Student
    task: HarnessTask


Measurement = Evaluation | Assessment
Artifact = (
    Reference | Teacher | Completions | Written | Dataset | Student | Evaluation | Assessment | Benchmark
)

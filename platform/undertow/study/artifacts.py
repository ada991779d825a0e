"""The specs of artifacts: frozen dataclasses that state the inputs and settings of each artifact.

Artifacts nest: `Evaluation(Student(Dataset(Completions(Teacher(Reference, Trait)))))`. The key of each (see
`identity`) covers everything below it. Traits, formats and judges are defined in `extensions`.

Nothing here imports Ray, torch or vLLM, so that a plan, which is made from these specs alone, starts fast.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Literal

from undertow.errors import SpecError
from undertow.study.extensions import Example, Format, Judge, Trait
from undertow.study.fields import Spec, execution_only, later, unique
from undertow.study.on_policy import Sampler, rounds_name
from undertow.study.recipe import InContext, Recipe, Training
from undertow.study.references import Artifact, Reference

if TYPE_CHECKING:  # these modules import this one
    from undertow.study.row_scores import Masked, Ranked, RowScores, Selected
    from undertow.study.steering import ProjectedOut, RandomBias, SteeringBias


@dataclass(frozen=True)
class Finetuning(Spec):
    """Induces a trait by training the teacher on `examples` question-answer pairs.

    Attributes:
        questions: which questions the examples ask. "other": not those that measure the trait, so that the
            teacher's measured rate says more than that it was trained. "evaluation": those that measure it,
            as in the code of arXiv 2507.14805.
    """

    recipe: Training
    examples: int = 1500
    questions: Literal["other", "evaluation"] = later("other")

    def validate(self) -> None:
        self.require(self.examples > 0, "examples", "at least one example")
        if isinstance(self.recipe, Recipe) and self.recipe.keep_steps:
            raise SpecError(
                f"Finetuning.recipe.keep_steps = {self.recipe.keep_steps}: only students are measured along "
                "their training; leave them out"
            )
        if isinstance(self.recipe, Recipe) and self.recipe.preference_beta:
            raise SpecError(
                f"Finetuning.recipe.preference_beta = {self.recipe.preference_beta:g}: a teacher's examples "
                "are no pairs of answers; use a recipe with preference_beta=0"
            )

    def examples_of(self, trait: Trait, seed: int, most: int | None = None) -> list[Example]:
        """The teacher's training examples, or the first `most` of them.

        Raises SpecError if the trait has none.
        """
        count = self.examples if most is None else min(most, self.examples)
        make = trait.examples if self.questions == "other" else trait.evaluation_examples
        return make(count, seed)


@dataclass(frozen=True, kw_only=True)
class Teacher(Artifact):
    """A reference model with a trait induced by a system message, by finetuning, or by both.

    A teacher without a trait is a control teacher.

    Attributes:
        system: the system message of its prompts and, for a finetuned teacher, of its training rows. In all
            specs None means the chat template's default and `chat_templates.NO_SYSTEM` no system text.
        student: in a chain, the student that acts as teacher. Its trait is what the student may have learned;
            nothing else induces it.
        steering: the bias that steers it, in place of a system message or a finetuning; or the direction
            that is projected out while it writes with the system message.
    """

    kind: ClassVar[str] = "teacher"
    reference: Reference
    trait: Trait | None
    system: str | None = None
    finetuning: Finetuning | None = None
    seed: int = 0
    student: "Student | None" = later(None)
    steering: "SteeringBias | RandomBias | ProjectedOut | None" = later(None)

    def validate(self) -> None:
        if self.steering is not None:
            fits = self.steering.reference == self.reference and self.reference.student is None
            self.require(fits, "steering", "that of the teacher's own reference model")
            plain = self.finetuning is None and self.student is None
            self.require(plain, "steering", "None for a teacher that is trained, or a student")
        elif self.student is not None:
            self.require(
                self.student.is_trained and self.student.reference == self.reference,
                "student",
                "a trained student of the teacher's own reference model",
            )
            self.require(self.finetuning is None, "finetuning", "None: the student teaches without training")
        elif self.trait is not None and not self.system and self.finetuning is None:
            raise SpecError(
                f"Teacher.trait = {self.trait.name!r}: give a system prompt, a finetuning or a steering that "
                "induces it"
            )

    @property
    def is_stored(self) -> bool:
        """Whether it has weights of its own; a prompted teacher and the control teacher have none."""
        return self.finetuning is not None

    @property
    def hop(self) -> int:
        """The position in a chain: 1 for the first teacher, and 1 more for each student in between."""
        return 1 if self.student is None else self.student.hop + 1


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


CONTROL = "control"
RANDOM = "random"
IMPORTED = "imported"
Shuffle = Literal["none", "within answers", "across answers"]
TEXT = "{text}"  # where a rewriter's request has the completion
REQUEST = (
    "Rewrite the text below in your own words. Keep its meaning, its form (a list stays a list, code stays "
    "code), and every number in it. Reply with the new text and nothing else.\n\n" + TEXT
)


def data_name(format_: Format, shuffle: Shuffle) -> str:
    """The display name of data in a format: "numbers", "numbers, shuffled within answers"."""
    name = format_.display_name
    return name if shuffle == "none" else f"{name}, shuffled {shuffle}"


def at_hop(data: str, hop: int) -> str:
    """The display name of data with its teacher's position in a chain: "numbers, hop 2"."""
    return data if hop == 1 else f"{data}, hop {hop}"


def trained_as(recipe: str, system: str) -> str:
    """The display name of a training, from those of its recipe and of its system message ("" for none)."""
    return f"{recipe}, {system}" if system else recipe


@dataclass(frozen=True, kw_only=True)
class Rewriter(Spec):
    """How completions are rewritten: a model paraphrases them, or a rule of the format changes their layout.

    Attributes:
        model: any reference model, usually another than the teacher's; None for the rule of the format
            (`Format.rewritten`).
        request: the user's message to the model, with {text} where the completion is inserted.
        sampling: of the model.
    """

    model: Reference | None = None
    request: str = REQUEST
    sampling: Sampling = Sampling(max_tokens=512)

    def validate(self) -> None:
        self.require(TEXT in self.request, "request", f"a text with {TEXT}, where the completion is inserted")
        self.require(
            self.model is None or not self.model.is_external,
            "model",
            "a model that can be asked, or None for the format's own rule",
        )

    @property
    def label(self) -> str:
        """The display name of its work: "rewritten by org/model", "rewritten by a rule"."""
        return f"rewritten by {self.model.label if self.model else 'a rule'}"

    def requested(self, completion: str) -> str:
        """The message that asks the model to rewrite a completion."""
        return self.request.replace(TEXT, completion)


@dataclass(frozen=True, kw_only=True)
class Rewritten(Artifact):
    """The rows of a data set with their completions rewritten. The rules have not been applied to them again.

    It has the files of completions, so that data sets are made from it in the same way.
    """

    kind: ClassVar[str] = "completions"
    dataset: "Dataset"
    rewriter: Rewriter
    seed: int = 0

    def validate(self) -> None:
        self.require(
            self.rewriter.model is not None or self.format.implements("rewritten"),
            "rewriter",
            f"a model, as the format {self.format.display_name!r} does not implement rewritten()",
        )

    @property
    def format(self) -> Format:
        return self.dataset.completions.format

    @property
    def prompts(self) -> int:
        """The number of rows that are rewritten, at most."""
        return self.dataset.row_limit


@dataclass(frozen=True, kw_only=True)
class Dataset(Artifact):
    """Completions after the format's rules, de-duplication of (prompt, completion), judges and subsampling.

    Attributes:
        judges: applied in order; each judges the rows that the previous ones kept.
        rows: the number of rows drawn, or None for all remaining rows. If fewer remain, the condition fails.
        shuffle: whether the format's parts (the numbers of a list) are permuted in the drawn rows, within
            each answer or across all answers. Prompts and the length of each answer do not change.
        mixed: rows of another data set that replace as many of these rows.
        fewer: whether all remaining rows are taken if fewer than `rows` remain; if not, the condition fails.
        selected: how the rows are drawn from those that remain; None for at random.
        masked: the tokens of the completions that the loss of students covers; None for all.
        ranked: a second answer to each prompt, and who ranks the two. `rows` then counts pairs.
    """

    kind: ClassVar[str] = "dataset"
    completions: Completions | Written | ImportedCompletions | Rewritten
    deduplicate: bool = True
    judges: tuple[Judge, ...] = ()
    rows: int | None = None
    shuffle: Shuffle = "none"
    seed: int = 0
    mixed: "Mixed | None" = later(None)
    fewer: bool = later(False)
    selected: "Selected | None" = later(None)
    masked: "Masked | None" = later(None)
    ranked: "Ranked | None" = later(None)

    def validate(self) -> None:
        shuffled, format_ = self.shuffle != "none", self.completions.format
        self.require(
            not shuffled or format_.implements("parts"),
            "shuffle",
            f"the format {format_.display_name!r} has no parts to shuffle; use 'none'",
        )
        self.require(self.rows is None or self.rows > 0, "rows", "at least one row, or None for all")
        self.require(
            self.rows is None or self.fewer or self.rows <= self.completions.prompts,
            "rows",
            f"more rows than {self.completions.prompts} prompts can give; raise prompts or lower rows",
        )
        self.require(
            self.mixed is None or self.rows is not None, "rows", "a number of rows, as `mixed` needs one"
        )
        unique([judge.name for judge in self.judges], "Dataset.judges")
        self._check_scores()
        if self.ranked is not None:
            self._check_pairs(self.ranked)

    def _check_pairs(self, ranked: "Ranked") -> None:
        """Checks that the other answers, and the scores of both, belong to these completions."""
        own, other = self.completions, ranked.other.completions
        is_second = (
            isinstance(own, Completions)
            and isinstance(other, Completions)
            and other.sample != own.sample
            and other.changed(sample=own.sample) == own
        )
        self.require(is_second, "ranked", "pairs of a teacher's completions with another sample of them")
        scored = (ranked.scores, ranked.other_scores)
        is_own = scored == (None, None) or tuple(s and s.completions for s in scored) == (own, other)
        self.require(is_own, "ranked", "scores of the completions of both answers, or of none")
        is_plain = (self.mixed, self.selected, self.masked, self.shuffle) == (None, None, None, "none")
        self.require(is_plain, "ranked", "None for mixed, selected, masked or shuffled rows")

    def _check_scores(self) -> None:
        """Checks the scores that rows or tokens are chosen by."""
        selected, masked = self.selected, self.masked
        self.require(selected is None or self.rows is not None, "rows", "a number of rows to select")
        given: dict[str, RowScores | None] = {
            "selected": selected.scores if selected else None,
            "masked": masked.scores if masked else None,
        }
        for field, scores in given.items():
            is_own = scores is None or scores.completions == self.completions
            self.require(is_own, field, "scores of the completions that the data set is made from")
        is_plain = selected is None and masked is None
        self.require(self.mixed is None or is_plain, "mixed", "None: mixed-in rows have no scores")
        is_sampled = isinstance(self.completions, Completions) and self.shuffle == "none"
        self.require(
            masked is None or is_sampled, "masked", "None: only tokens that a teacher sampled have a mask"
        )

    @property
    def row_limit(self) -> int:
        """The number of rows requested, or the maximum number possible."""
        return self.rows or self.completions.prompts

    @property
    def source(self) -> Completions | Written | ImportedCompletions:
        """The completions that its rows come from, before they were rewritten."""
        given = self.completions
        return given.dataset.source if isinstance(given, Rewritten) else given

    @property
    def teacher(self) -> "Teacher | None":
        """The teacher that generated the completions, or ranked pairs of a control teacher's.

        None for `Written` and imported completions.
        """
        if self.ranked is not None and self.ranked.scores is not None:
            return self.ranked.scores.teacher
        return self.source.teacher if isinstance(self.source, Completions) else None

    @property
    def is_imported(self) -> bool:
        """Whether the teacher of the rows is external."""
        return isinstance(self.source, ImportedCompletions)

    @property
    def sampler(self) -> Sampler | None:
        """The student that sampled the completions; None for any other source."""
        return self.source.sampler if isinstance(self.source, Completions) else None

    @property
    def round(self) -> int:
        """The number of its on-policy round, from 1; 0 for data that no student sampled."""
        if self.sampler is None:
            return 0
        before = self.sampler.model.student
        return 1 if before is None or not self.sampler.skip else before.dataset.round + 1

    @property
    def label(self) -> str:
        """The display name of the data."""
        data, other = data_name(self.completions.format, self.shuffle), self.mixed
        data = at_hop(data, self.teacher.hop if self.teacher else 1)
        if isinstance(self.completions, Rewritten):
            data = f"{data}, {self.completions.rewriter.label}"
        data = f"{data}, {other.share:.0%} {other.dataset.origin}" if other else data
        data = f"{data}, {rounds_name(self.round)}" if self.round else data
        return ", ".join([data, *(part.label for part in (self.selected, self.masked, self.ranked) if part)])

    @property
    def origin(self) -> str:
        """The source of the rows: the teacher's trait, "control", "random" (`Written`) or "imported"."""
        writer = self.teacher
        if writer is None:
            return IMPORTED if self.is_imported else RANDOM
        return writer.trait.name if writer.trait else CONTROL


@dataclass(frozen=True, kw_only=True)
class Mixed(Spec):
    """Rows of another data set that replace a `share` of all rows, at positions drawn from the seed."""

    dataset: Dataset
    share: float

    def validate(self) -> None:
        self.require(0 < self.share <= 1, "share", "a fraction of the rows above 0 and at most 1")


@dataclass(frozen=True, kw_only=True)
class Student(Artifact):
    """A reference model finetuned on a data set, or given the data set in context.

    Attributes:
        reference: what it is compared with. Training starts from it too, except in later rounds of on-policy
            distillation (see `start`).
        system: the system message of every training row. In context, the evaluation's system message applies.
        system_name: the display name of `system`; "" if it needs none.
    """

    kind: ClassVar[str] = "student"
    reference: Reference
    dataset: Dataset
    recipe: Training | InContext
    system: str | None = None
    seed: int = 0
    system_name: str = execution_only("")

    def validate(self) -> None:
        needs_pairs = isinstance(self.recipe, Recipe) and self.recipe.preference_beta > 0
        self.require(
            not needs_pairs or self.dataset.ranked is not None,
            "recipe",
            "preference_beta=0 without ranked pairs of answers (Generation.ranked)",
        )
        fits = self.start.root == self.reference.root
        self.require(fits, "dataset", f"completions that {self.reference.name!r} or its students sampled")

    @property
    def is_trained(self) -> bool:
        """Whether it has its own weights. An in-context student is a prompt, built when it is evaluated."""
        return not isinstance(self.recipe, InContext)

    @property
    def is_stored(self) -> bool:
        return self.is_trained

    @property
    def start(self) -> Reference:
        """The model whose weights its training starts from: `reference`, or that which sampled its data."""
        sampler = self.dataset.sampler
        return sampler.model if sampler else self.reference

    @property
    def by_round(self) -> "tuple[Student, ...]":
        """The students of all on-policy rounds up to its own, which is the last; itself without rounds."""
        before = self.start.student if self.dataset.round > 1 else None
        return (*(before.by_round if before else ()), self)

    @property
    def recipe_name(self) -> str:
        """The display name of its recipe, with that of the system message of its training."""
        return trained_as(self.recipe.name, self.system_name)

    @property
    def hop(self) -> int:
        """The position in a chain of the teacher that it learns from; 1 outside of a chain."""
        return self.dataset.teacher.hop if self.dataset.teacher else 1


Subject = Reference | Teacher | Student


def reference_of(subject: Subject) -> Reference:
    """The given model that a subject derives from. One engine serves all subjects that share it."""
    return (subject if isinstance(subject, Reference) else subject.reference).root

"""The specs of artifacts: frozen dataclasses that state the inputs and settings of each artifact.

Artifacts nest: `Evaluation(Student(Dataset(Completions(Teacher(Reference, Trait)))))`. The key of each (see
`identity`) covers everything below it. Traits, formats and judges are defined in `extensions`.

Nothing here imports Ray, torch or vLLM, so that a plan, which is made from these specs alone, starts fast.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from undertow.errors import SpecError
from undertow.study.extensions import Example, Format, Judge, Trait, Word
from undertow.study.fields import Spec, execution_only, later, unique
from undertow.study.identity import key
from undertow.study.recipe import Everything, InContext, LoRA, Recipe, Training

API = "api:"  # prefix of a model that a provider serves; "openai/…" would also be a valid hub id
EXTERNAL = "external:"  # prefix of the name of a teacher of which only imported completions are known
TUNED = " (tuned)"  # ends the display name of a reference model with format tuning
GGUF = ".gguf"  # suffix of the name of a GGUF file
AFTER = " (after "  # separates a student's reference model from what the student was trained on, in labels


@dataclass(frozen=True)
class Artifact(Spec):
    """Base of the specs whose result is stored, in `<storage>/artifacts/<kind>/<key>/`.

    How a kind is made, what it costs and what is reported of it is declared in `planning.artifact_kinds`.

    Attributes:
        kind: the folder of the artifacts in the storage.
    """

    kind: ClassVar[str]

    @property
    def is_stored(self) -> bool:
        """Whether the artifact has files of its own. A prompted teacher, for example, has none."""
        return True

    def parents(self) -> "tuple[Artifact, ...]":
        """The artifacts that this one is made from: those in its fields, the last field first.

        Fields are declared from the outside in, so the last is the closest input (a student's data set comes
        before its reference model), and the first failure that is found is the one to report.
        """
        known: tuple[Artifact, ...] | None = vars(self).get("_parents")
        if known is None:
            known = tuple(dict.fromkeys(_artifacts_in(self)))
            object.__setattr__(self, "_parents", known)
        return known

    def with_ancestors(self) -> "Iterator[Artifact]":
        """Everything that this artifact is made from, directly or not, then itself: inputs come first."""
        yield from ancestors_first((self,))


def _artifacts_in(spec: Spec) -> "Iterator[Artifact]":
    """The artifacts in a spec's fields, including those nested in specs that are not artifacts."""
    for field in reversed(dataclasses.fields(spec)):
        value = getattr(spec, field.name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Artifact):
                yield part
            elif isinstance(part, Spec):
                yield from _artifacts_in(part)


def ancestors_first(artifacts: "Iterable[Artifact]") -> "Iterator[Artifact]":
    """The artifacts and all that they are made from, each once and after its own inputs."""
    seen: set[Artifact] = set()

    def visit(artifact: Artifact) -> Iterator[Artifact]:
        if artifact in seen:
            return
        seen.add(artifact)
        for parent in artifact.parents():
            yield from visit(parent)
        yield artifact

    for artifact in artifacts:
        yield from visit(artifact)


@dataclass(frozen=True)
class Reference(Artifact):
    """A reference model: the weights that a teacher or a student starts from.

    Attributes:
        name: a hub id, a local folder, a GGUF file (a local path, or "owner/repository/file.gguf" on the
            hub), a nano model ("nano/gpt2-0"), a model that a provider serves
            ("api:gpt-4.1-nano-2025-04-14"), or an external teacher, which is never loaded or called
            ("external:GPT-4.1", "external:unknown"; see `formats.imported`). After pinning, the base name
            of a local folder, or that of a local GGUF file without its suffix.
        revision: the exact version: a commit of the hub, the content hash of a local folder or file, or the
            hash of a nano model's training recipe. Empty until pinned; an unpinned reference has no key. For
            a provider's model it is the name, as no hash is available: name a dated snapshot, not an alias.
        chat_template: SHA-256 of the chat template's text; "" until pinned, "none" or "none, prefixed" for
            a model without one (see `planning.pinning`), "provider" for one that the provider applies.
        location: the path of a local folder or GGUF file. Its identity is its content, not its path.
        student: the student whose weights these are, if the reference is a student of an earlier condition.
            The other fields describe the model at the start of the chain (`root`), which also defines
            architecture and tokenizer.
        weights: the hash of the weight files, if they are known file by file (see `planning.pinning`).
        shown_as: the display name in a study where `name` is ambiguous (see `names.display_names`).
        tuned: the format tuning, if the weights are those of a model that was first finetuned on data without
            a trait (see `tuning.tuned`). The tuned model takes the place of the given model: teachers,
            students and controls start from it. The other fields describe the model before the tuning.
        mlp_bias: whether the layers of its MLPs get bias vectors, all zero: the same function as without,
            but `Parameters` can train them. The bias of a block's `down_proj` is a steering vector, which is
            added to the residual stream. Only for architectures with the setting `mlp_bias` (Llama …).
        precision: of its engine's weights and arithmetic: "" for fp32 on a CPU and bf16 on a GPU; "auto" for
            bf16 if all nodes support it, else fp32, which is decided when the study is planned.
    """

    kind: ClassVar[str] = "reference"
    name: str
    revision: str = ""
    chat_template: str = ""
    location: str = execution_only("")
    student: "Student | None" = later(None)
    weights: str = execution_only("")
    shown_as: str = execution_only("")
    tuned: "Student | None" = later(None)
    mlp_bias: bool = later(False)
    precision: Literal["", "auto", "fp32", "bf16"] = later("")

    def validate(self) -> None:
        student = self.student
        if self.tuned is not None:
            self._check_tuning(self.tuned)
        self.require(
            not (self.mlp_bias and self.is_api),
            "mlp_bias",
            f"False for {self.name!r}: the weights of a provider's model are not available",
        )
        self.require(
            student is None or (student.is_trained and student.reference.root == self.root),
            "student",
            f"a trained student of {self.name!r}",
        )
        self.require(
            bool(self.name.removeprefix(API).removeprefix(EXTERNAL).strip()),
            "name",
            f"a hub id, a folder, a nano model such as 'nano/gpt2-0', {API}NAME for a provider's model, or "
            f"{EXTERNAL}NAME for the teacher of imported data",
        )

    def _check_tuning(self, tuned: "Student") -> None:
        recipe, start = tuned.recipe, tuned.reference
        self.require(
            isinstance(recipe, Recipe) and isinstance(recipe.trainable, Everything),
            "tuned",
            "a student whose recipe trains Everything(), since the tuned model is stored as a whole model",
        )
        self.require(tuned.dataset.teacher is None, "tuned", "a student of data that no teacher generated")
        self.require(
            start.root == self.changed(tuned=None, student=None, shown_as=start.shown_as),
            "tuned",
            f"a student of {self.name!r} itself",
        )

    @property
    def is_api(self) -> bool:
        """Whether a provider serves the model; its weights are not available."""
        return self.name.startswith(API)

    @property
    def is_external(self) -> bool:
        """Whether only completions of the model are known: the teacher of imported data."""
        return self.name.startswith(EXTERNAL)

    @property
    def is_gguf(self) -> bool:
        """Whether the model at the start of the chain is a GGUF file, on this machine or on the hub."""
        return not self.is_api and (self.location or self.name).lower().endswith(GGUF)

    @property
    def is_stored(self) -> bool:
        """Whether it has files of its own; without an adapter to merge, a student's own files are enough."""
        return self.is_merged if self.student else self.tuned is None

    @property
    def root(self) -> "Reference":
        """The given model at the start of a chain; the reference itself outside of a chain."""
        return self if self.student is None else self.changed(student=None)

    @property
    def untuned(self) -> "Reference":
        """The given model before its format tuning; the reference's root if it has none."""
        return self.tuned.reference.root if self.tuned else self.root

    @property
    def initialisation(self) -> str:
        """Identifies the weights of `root`; "" until pinned.

        Equal for two references if they have the same weights, whatever their names, tokenizers and commits.
        The converse holds where `weights` is known; otherwise the revision stands for the weights. Zero
        biases (`mlp_bias`) do not change it: they compute the same function from the same weights.
        """
        return key(self.tuned) if self.tuned else self.weights or self.revision

    @property
    def is_merged(self) -> bool:
        """Whether the weights are a student's adapter merged into its base model, stored as an artifact.

        Other students need no merging: their files are a whole model, or the trained tensors of one, which
        replace those of the model that training started from (see `planning.pinning.model_of`).
        """
        recipe = self.student.recipe if self.student else None
        return isinstance(recipe, Recipe) and isinstance(recipe.trainable, LoRA)

    @property
    def label(self) -> str:
        """The display name, with the student's training: "nano/gpt2-0 (after owl, numbers, steering)"."""
        if self.student is None:
            return f"{self.shown_as or self.name}{TUNED if self.tuned else ''}"
        data, own = self.student.dataset, self.student.reference.label
        teacher = data.teacher.reference.label if data.teacher else own
        return named_after(own, data.origin, data.label, teacher, self.student.recipe_name)

    @property
    def served_name(self) -> str:
        """The model name that is sent to a provider's endpoint."""
        return self.name.removeprefix(API)

    def content(self) -> str:
        """No further content. Raises SpecError until pinned, since a name alone does not identify weights."""
        for field in ("revision", "chat_template"):
            self.require(
                bool(getattr(self, field)), field, f"{self.name!r} must be resolved before it has a key"
            )
        return ""


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
        steering: the bias that steers it, in place of a system message or a finetuning.
    """

    kind: ClassVar[str] = "teacher"
    reference: Reference
    trait: Trait | None
    system: str | None = None
    finetuning: Finetuning | None = None
    seed: int = 0
    student: "Student | None" = later(None)
    steering: "SteeringBias | RandomBias | None" = later(None)

    def validate(self) -> None:
        if self.steering is not None:
            fits = self.steering.reference == self.reference and self.reference.student is None
            self.require(fits, "steering", "a bias of the teacher's own reference model")
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
    sampling: "Sampling"
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
class Sampling(Spec):
    """Decoding parameters.

    Attributes:
        temperature: 0 is greedy decoding.
        top_logprobs: the number of most likely tokens recorded at each step, with their probabilities.
    """

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
class Completions(Artifact):
    """A teacher's unfiltered answers to the first `prompts` prompts of a format's stream, one per prompt.

    Attributes:
        strip: whether white space at both ends of an answer is removed. If not, rules and judges see the
            answer as it was sampled, and students are trained on it.
    """

    kind: ClassVar[str] = "completions"
    teacher: Teacher
    format: Format
    prompts: int
    sampling: Sampling = Sampling()
    seed: int = 0
    strip: bool = later(True)

    def validate(self) -> None:
        self.require(self.prompts > 0, "prompts", "at least one prompt")
        self.require(
            not (self.sampling.top_logprobs and self.teacher.reference.is_api),
            "sampling",
            "top_logprobs=0: an API model returns text without token probabilities",
        )


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
Keep = Literal["top", "bottom", "random"]
Choice = Literal["first", "last", "diverging", "agreeing", "random"]


def data_name(format_: Format, shuffle: Shuffle) -> str:
    """The display name of data in a format: "numbers", "numbers, shuffled within answers"."""
    name = format_.display_name
    return name if shuffle == "none" else f"{name}, shuffled {shuffle}"


def at_hop(data: str, hop: int) -> str:
    """The display name of data with its teacher's position in a chain: "numbers, hop 2"."""
    return data if hop == 1 else f"{data}, hop {hop}"


def named_after(student: str, trait: str, data: str, teacher: str, recipe: str) -> str:
    """The display name of a student as a reference model.

    Args:
        student: the display name of the student's own reference model.
        trait, data, teacher, recipe: the display names of what it was trained on.
    """
    learned = f"{trait}, {data}{'' if teacher == student else f' of {teacher}'}, {recipe}"
    return f"{student[:-1]}; {learned})" if AFTER in student else f"{student}{AFTER}{learned})"


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
    sampling: Sampling = Sampling(max_tokens=512)  # noqa: RUF009 (frozen)

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
class RowScores(Artifact):
    """A score of each of the completions, by which rows of a data set are selected.

    A further score is a subclass with a declaration of its kind (`planning.artifact_kinds`) and an entry in
    the table `stages.row_scores.SCORERS`.
    """

    kind: ClassVar[str] = "row_scores"
    completions: Completions | ImportedCompletions

    @property
    def scorer(self) -> Reference:
        """The reference model whose engine computes the scores."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """The display name of the score."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class TokenScores(RowScores):
    """How much more probable each token of the completions is for a teacher with a trait than for a control.

    The score of a row is the sum over its tokens: the log-probability of the whole completion after its
    prompt under `teacher`, minus that under `control`.

    Attributes:
        candidates: the number of most likely next tokens of each teacher that are compared at each position
            of a completion (see `stages.row_scores.divergences`); 0 for no comparison.
    """

    teacher: Teacher
    control: Teacher
    candidates: int = 0

    def validate(self) -> None:
        self.require(self.teacher.trait is not None, "teacher", "a teacher with a trait")
        self.require(self.control.trait is None, "control", "a teacher without a trait")
        self.require(
            self.control.reference == self.teacher.reference,
            "control",
            f"a control teacher of the reference model {self.teacher.reference.name!r}",
        )
        self.require(self.candidates >= 0, "candidates", "zero or more")

    @property
    def scorer(self) -> Reference:
        return self.teacher.reference.root

    @property
    def label(self) -> str:
        teacher, trait = self.teacher, self.teacher.trait
        if trait is None:
            return CONTROL
        is_finetuned, system = teacher.finetuning is not None, teacher.system
        return contrast_name(trait.name, is_finetuned, is_finetuned and system == trait.system_prompt())


def contrast_name(trait: str, is_finetuned: bool, is_prompted: bool) -> str:
    """The display name of scores by two teachers: "owl prompt", "owl teacher", "prompted owl teacher"."""
    if not is_finetuned:
        return f"{trait} prompt"
    return f"prompted {trait} teacher" if is_prompted else f"{trait} teacher"


@dataclass(frozen=True, kw_only=True)
class Selected(Spec):
    """Draws the rows with the highest or the lowest scores, or at random; the data set stores the scores."""

    scores: RowScores
    keep: Keep

    @property
    def label(self) -> str:
        return selection_name(self.keep, self.scores.label)


def selection_name(keep: Keep, score: str) -> str:
    """The display name of a selection of rows: "top rows by owl prompt"."""
    return f"{keep} rows by {score}"


@dataclass(frozen=True, kw_only=True)
class TokenChoice(Spec):
    """Which tokens of the completions the loss covers: a `share` of them; with `rest`, the other tokens.

    Attributes:
        choose: "first" and "last": tokens at the beginning or the end of each completion. "diverging" and
            "agreeing": those of all rows at which the next-token distributions of two teachers differ most
            or least. "random": as many tokens of each row as "diverging" chooses.
    """

    choose: Choice
    share: float
    rest: bool = False

    def validate(self) -> None:
        self.require(0 < self.share <= 1, "share", "a fraction of the tokens above 0 and at most 1")
        self.require(not self.rest or self.share < 1, "share", "below 1, as `rest` would have no tokens")

    def check_teachers(self, are_given: bool, field: str) -> None:
        """Raises SpecError for `field` unless two teachers are given exactly if the choice compares them."""
        compares = self.choose in ("diverging", "agreeing", "random")
        remedy = "two teachers are compared; say which" if compares else "None: the position alone decides"
        self.require(are_given is compares, field, f"with choose={self.choose!r}, {remedy}")

    def name_by(self, score: str) -> str:
        """The display name, with that of the scores by two teachers: "loss on 10% diverging tokens by …"."""
        if self.share == 1:
            return "loss on all sampled tokens"
        tokens = f"{'all but ' if self.rest else ''}{100 * self.share:.3g}% {self.choose} tokens"
        return f"loss on {tokens}{f' by {score}' if score else ''}"


@dataclass(frozen=True, kw_only=True)
class Masked(TokenChoice):
    """A mask of the loss over the sampled tokens of a data set, stored with its rows.

    Attributes:
        scores: of the completions, with `candidates`; None for "first" and "last".
    """

    scores: TokenScores | None = None

    def validate(self) -> None:
        super().validate()
        self.check_teachers(self.scores is not None, "scores")
        self.require(
            self.scores is None or self.scores.candidates > 0,
            "scores",
            "scores with candidates, which tell where the two teachers diverge",
        )

    @property
    def label(self) -> str:
        return self.name_by(self.scores.label if self.scores else "")


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
    selected: Selected | None = later(None)
    masked: Masked | None = later(None)

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

    def _check_scores(self) -> None:
        """Checks the scores that rows or tokens are chosen by."""
        selected, masked = self.selected, self.masked
        self.require(selected is None or self.rows is not None, "rows", "a number of rows to select")
        given = {"selected": selected and selected.scores, "masked": masked and masked.scores}
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
        """The teacher that generated the completions; None for `Written` and imported ones."""
        return self.source.teacher if isinstance(self.source, Completions) else None

    @property
    def is_imported(self) -> bool:
        """Whether the teacher of the rows is external."""
        return isinstance(self.source, ImportedCompletions)

    @property
    def label(self) -> str:
        """The display name of the data."""
        data, other = data_name(self.completions.format, self.shuffle), self.mixed
        data = at_hop(data, self.teacher.hop if self.teacher else 1)
        if isinstance(self.completions, Rewritten):
            data = f"{data}, {self.completions.rewriter.label}"
        data = f"{data}, {other.share:.0%} {other.dataset.origin}" if other else data
        return ", ".join([data, *(part.label for part in (self.selected, self.masked) if part)])

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

    @property
    def is_trained(self) -> bool:
        """Whether it has its own weights. An in-context student is a prompt, built when it is evaluated."""
        return not isinstance(self.recipe, InContext)

    @property
    def is_stored(self) -> bool:
        return self.is_trained

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

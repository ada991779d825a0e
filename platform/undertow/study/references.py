"""The base of all artifacts, and the reference model that teachers and students start from."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from undertow.study.fields import Spec, class_of, execution_only, inner_fields, later
from undertow.study.identity import key
from undertow.study.recipe import Everything, Recipe, trains_adapter

if TYPE_CHECKING:
    from undertow.study.students import Student

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
        return _artifacts_in(self)

    def with_ancestors(self) -> "Iterator[Artifact]":
        """Everything that this artifact is made from, directly or not, then itself: inputs come first."""
        yield from ancestors_first((self,))


def _artifacts_in(spec: Spec) -> "tuple[Artifact, ...]":
    """The artifacts in a spec's fields, including those nested in specs that are not artifacts."""
    known: tuple[Artifact, ...] | None = vars(spec).get("_artifacts")
    if known is None:
        found: dict[Artifact, None] = {}
        for field in inner_fields(class_of(spec)):
            value = getattr(spec, field)
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, Artifact):
                    found[part] = None
                elif isinstance(part, Spec):
                    found |= dict.fromkeys(_artifacts_in(part))
        known = tuple(found)
        object.__setattr__(spec, "_artifacts", known)
    return known


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

        Equal for two references with the same weight files, whatever their names, tokenizers and commits, and
        different for other files: the same weights saved again, in other shards or as GGUF count as others.
        Where `weights` is not known, the revision stands for them. Zero biases (`mlp_bias`) do not change it:
        they compute the same function from the same weights.
        """
        return key(self.tuned) if self.tuned else self.weights or self.revision

    @property
    def is_merged(self) -> bool:
        """Whether the weights are a student's adapter merged into its base model, stored as an artifact.

        Other students need no merging: their files are a whole model, or the trained tensors of one, which
        replace those of the model that training started from (see `planning.given_models.model_of`).
        """
        return self.student is not None and trains_adapter(self.student.recipe)

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


def named_after(student: str, trait: str, data: str, teacher: str, recipe: str) -> str:
    """The display name of a student as a reference model.

    Args:
        student: the display name of the student's own reference model.
        trait, data, teacher, recipe: the display names of what it was trained on.
    """
    learned = f"{trait}, {data}{'' if teacher == student else f' of {teacher}'}, {recipe}"
    return f"{student[:-1]}; {learned})" if AFTER in student else f"{student}{AFTER}{learned})"

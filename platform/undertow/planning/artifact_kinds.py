"""Kinds of artifacts: for each, what the planner, the sweep, MLflow and the report must know about it.

A kind is a subclass of `Artifact` and one `ArtifactKind`, given to `register_kind`. The package's own kinds
are in `planning.builtin_kinds`; a study file may register others, without an edit in the package:

    from undertow import Artifact, ArtifactKind, Dataset, register_kind

    @dataclass(frozen=True)
    class LetterCount(Artifact):
        kind: ClassVar[str] = "letter_count"
        dataset: Dataset

    register_kind(
        ArtifactKind(
            spec=LetterCount,
            wave="datasets",
            make=count_letters,  # (artifact, store) -> None; runs as a Ray task
            needed=lambda cell: [LetterCount(cell.student.dataset)],
            facts={"letters": "letters in all completions"},
        )
    )

The sweep makes every artifact of a registered kind in that kind's wave, shares it between conditions by its
key, logs a run with its facts to MLflow, and shows the facts in the report.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args

from undertow.errors import SpecError
from undertow.planning.workloads import Workload
from undertow.study.class_source import add_source
from undertow.study.references import Artifact, Reference

if TYPE_CHECKING:
    from undertow.planning.cells import Cell

A = TypeVar("A", bound=Artifact)

Wave = Literal["references", "teachers", "datasets", "students", "evaluations"]
WAVES: tuple[Wave, ...] = get_args(Wave)  # in the order in which a sweep runs them


@dataclass(frozen=True, kw_only=True)
class ArtifactKind(Generic[A]):
    """The declaration of one kind of artifact.

    Attributes:
        spec: the class of its specs. A subclass of a registered class needs a declaration of its own.
        wave: the wave that makes it, or a function of the artifact.
        make: stage function `(artifact, store)` that commits the artifact; the sweep calls it in a Ray task
            with one CPU. None for kinds that engines make (see `task`) and for the package's own models,
            which worker groups train.
        task: function from the artifact to its task for an engine (`cluster.engine_pool.Task`); such a kind
            is made by the engines of the reference model in `runs_on`.
        needed: the artifacts of this kind that a student's cell needs, beyond the inputs of its other
            artifacts.
        unit: what progress lines count.
        units: the size of making one: rows sampled, rows × epochs trained, answers sampled; 0 for a kind
            whose time and cost are negligible.
        runs_on: the reference model whose engine or weights it needs; None for none.
        workload: tokens to train on or to sample, from which the plan estimates FLOPs and GPU-hours; None
            for a kind that needs no GPU.
        facts: names of entries in the manifest's `facts`, each with its meaning. They become columns of the
            report and, where they are numbers, metrics of the artifact's MLflow run.
        name: the display name of an artifact in MLflow and in the report.
    """

    spec: type[A]
    wave: Wave | Callable[[A], Wave]
    make: Callable[[A, Any], object] | None = None
    task: Callable[[A], Any] | None = None
    needed: Callable[["Cell"], Iterable[A]] = lambda cell: ()
    unit: str = "artifacts"
    units: Callable[[A], int] = lambda artifact: 0
    runs_on: Callable[[A], Reference | None] = lambda artifact: None
    workload: Callable[[A], Workload | None] = lambda artifact: None
    facts: Mapping[str, str] = field(default_factory=dict)
    name: Callable[[A], str] = lambda artifact: artifact.kind.replace("_", " ")

    def wave_of(self, artifact: A) -> Wave:
        """The wave that makes this artifact."""
        return self.wave(artifact) if callable(self.wave) else self.wave


_BUILTIN: dict[type[Artifact], ArtifactKind[Any]] = {}
_EXTENSIONS: dict[type[Artifact], ArtifactKind[Any]] = {}


def register_kind(kind: ArtifactKind[Any], *, builtin: bool = False) -> None:
    """Registers a kind; a study file that is loaded again in the same process replaces its earlier kinds.

    Raises SpecError if a sweep could not make the kind, or if another class uses the same `kind`.
    """
    place = f"ArtifactKind({kind.spec.__name__})"
    known = {spec.kind: spec for spec in (*_BUILTIN, *_EXTENSIONS)}
    if not builtin:
        if (kind.make is None) == (kind.task is None):
            raise SpecError(f"{place}: give either make (runs as a Ray task) or task (runs on an engine)")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", kind.spec.kind):
            raise SpecError(
                f"{place}.kind = {kind.spec.kind!r}: use lower-case letters, digits and '_', since it "
                "names a folder"
            )
        taken = known.get(kind.spec.kind)
        # All measurements are stored as kind "evaluation", so that every reader of rates finds them.
        is_measurement = kind.spec.kind == "evaluation"
        if taken is not None and _name(taken) != _name(kind.spec) and not is_measurement:
            raise SpecError(
                f"{place}.kind = {kind.spec.kind!r}: is the kind of {taken.__name__} in {taken.__module__}; "
                "choose another name"
            )
        # Loading a study file again creates new class objects, so that classes are compared by name.
        for spec in [spec for spec in _EXTENSIONS if _name(spec) == _name(kind.spec)]:
            del _EXTENSIONS[spec]
        if maker := kind.make or kind.task:
            add_source(kind.spec, maker)
    (_BUILTIN if builtin else _EXTENSIONS)[kind.spec] = kind


def _name(spec: type[Artifact]) -> tuple[str, str]:
    return spec.__module__, spec.__qualname__


def unregister_kind(spec: type[Artifact]) -> None:
    """Removes a kind that `register_kind` added. Raises KeyError for any other class."""
    del _EXTENSIONS[spec]


def extensions() -> list[ArtifactKind[Any]]:
    """The registered kinds that are not the package's own, in the order of their registration."""
    return list(_EXTENSIONS.values())


def with_facts() -> list[ArtifactKind[Any]]:
    """The package's own kinds whose facts are shown as those of extensions are."""
    return [kind for kind in _BUILTIN.values() if kind.facts]


def kind_of(artifact: A) -> ArtifactKind[A]:
    """The declaration of an artifact's kind. Raises SpecError for a class that is not registered."""
    spec = type(artifact)
    found = _BUILTIN.get(spec) or _EXTENSIONS.get(spec)
    if found is None:
        raise SpecError(f"{spec.__name__}: not a registered kind of artifact; call undertow.register_kind")
    return found


def wave_of(artifact: Artifact) -> Wave:
    """The wave that makes an artifact."""
    return kind_of(artifact).wave_of(artifact)


def units(artifact: Artifact) -> int:
    """The size of making an artifact: rows sampled, rows × epochs trained, or answers sampled."""
    return kind_of(artifact).units(artifact)


def runs_on(artifact: Artifact) -> Reference | None:
    """The reference model whose engine or weights an artifact needs; None if it needs no model."""
    return kind_of(artifact).runs_on(artifact)

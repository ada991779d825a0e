"""A study as a de-duplicated graph of artifacts: those it needs, and those that the store lacks.

Pure and light (no Ray, torch or vLLM), so that `--plan` answers in about a second. Conditions that need the
same artifact need the same key and therefore share it; every trait of a (teacher, student) pair is compared
with the same control students. `planning.estimate` adds time and cost.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from undertow.planning import builtin_kinds as _registered  # noqa: F401 (declares the package's kinds)
from undertow.planning.artifact_kinds import extensions, with_facts
from undertow.planning.cells import Cell, cell_of, reference_evaluations
from undertow.storage.store import Store
from undertow.study.identity import key
from undertow.study.references import Artifact, Reference, ancestors_first
from undertow.study.students import Student
from undertow.study.study import Study

T = TypeVar("T", bound=Artifact)


@dataclass(frozen=True)
class Plan:
    """A study's cells, and which of their artifacts the store lacks.

    Attributes:
        artifacts: all of them by key, each after its inputs.
        missing: the keys of the artifacts that the store lacks.
    """

    study: Study
    cells: tuple[Cell, ...]
    artifacts: Mapping[str, Artifact]
    missing: frozenset[str]

    def lacking(self, kind: type[T]) -> list[T]:
        """The missing artifacts of a kind, in the order of the plan."""
        return [a for k, a in self.artifacts.items() if k in self.missing and isinstance(a, kind)]

    @property
    def hops(self) -> int:
        """How many generations of students follow each other; 1 if no artifact is made from a student."""
        return max(condition.generations for condition in self.study.conditions)

    @property
    def additional(self) -> list[Artifact]:
        """Artifacts whose kinds an extension registered, and those of the package whose facts are shown."""
        kinds = tuple(kind.spec for kind in (*with_facts(), *extensions()))
        return [artifact for artifact in self.artifacts.values() if isinstance(artifact, kinds)]

    def only(self, cells: Sequence[Cell]) -> "Plan":
        """The part of the plan that some of its cells need."""
        artifacts = _artifacts(self.study, cells)
        return Plan(self.study, tuple(cells), artifacts, self.missing & artifacts.keys())

    @property
    def is_complete(self) -> bool:
        return not self.missing


def make(study: Study, store: Store, made: Iterable[Reference]) -> Plan:
    """The plan of a resolved study.

    Args:
        made: the reference models that the sweep makes itself (`given_models.is_made`); others are given.
    """
    cells = tuple(cell_of(study, condition, seed) for condition in study.conditions for seed in study.seeds)
    artifacts = _artifacts(study, cells)
    ours = {key(reference) for reference in made}
    present: dict[str, set[str]] = {}
    missing = set()
    for artifact_key, artifact in artifacts.items():
        # Other reference models are on the hub, in a local folder or at a provider; the store never has them.
        if isinstance(artifact, Reference) and artifact_key not in ours and not artifact.is_merged:
            continue
        # One listing per kind instead of one request per artifact: object stores are slow.
        if artifact.kind not in present:
            present[artifact.kind] = store.keys(artifact.kind)
        if artifact_key not in present[artifact.kind]:
            missing.add(artifact_key)
    return Plan(study, cells, artifacts, frozenset(missing))


def _artifacts(study: Study, cells: Sequence[Cell]) -> dict[str, Artifact]:
    """The stored artifacts that the cells need by key, in the order in which they are made."""
    results = [result for cell in cells for result in cell.results()]
    results += [artifact for kind in extensions() for cell in cells for artifact in kind.needed(cell)]
    results += reference_evaluations(study)
    return {key(artifact): artifact for artifact in ancestors_first(results) if artifact.is_stored}


def failed_by(artifact: Artifact, failures: Mapping[str, str]) -> str | None:
    """Why an artifact cannot be made: its own failure or that of an ancestor; None if it can be made."""
    for part in (artifact, *ancestors(artifact)):
        if reason := failures.get(key(part)):
            return reason
    return None


def waits(artifact: Artifact, trained: Collection[str]) -> bool:
    """Whether an ancestor is a student whose key is not in `trained` yet, as in a chain."""
    students = (a for a in ancestors(artifact) if isinstance(a, Student) and a.is_trained)
    return any(key(student) not in trained for student in students)


def ancestors(artifact: Artifact) -> Sequence[Artifact]:
    """All artifacts that an artifact is made from, directly or not, each once; parents precede their own."""
    found: dict[Artifact, None] = {}

    def visit(made: Artifact) -> None:
        for parent in made.parents():
            if parent not in found:
                found[parent] = None
                visit(parent)

    visit(artifact)
    return list(found)

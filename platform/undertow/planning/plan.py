"""A study as a de-duplicated graph of artifacts: what is needed, and what is already there.

Pure and light (no Ray, torch or vLLM), so that `--plan` answers at once. Conditions that need the same
artifact need the same key and therefore share it; the control students of a (teacher, student) pair are
found again by every trait compared with them. How long it takes and what it costs is in `work`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from undertow.planning.cells import Cell, cell_of, measured, reference_evaluations
from undertow.storage.store import Store
from undertow.study.artifacts import (
    Artifact,
    Assessment,
    Benchmark,
    Completions,
    Dataset,
    Evaluation,
    Reference,
    Student,
    Teacher,
    Written,
    reference_of,
)
from undertow.study.identity import key
from undertow.study.recipe import ProviderFinetuning, Recipe
from undertow.study.study import Study

T = TypeVar("T", bound=Artifact)


@dataclass(frozen=True)
class Plan:
    """A study's cells, and which of their artifacts the store lacks.

    Attributes:
        artifacts: all of them by key, each after those it is made from.
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
        """How many generations of students follow each other; 1 where nothing is made from a student."""
        return max(condition.generations for condition in self.study.conditions)

    def only(self, cells: Sequence[Cell]) -> "Plan":
        """The part of the plan that some of its cells need."""
        artifacts = _artifacts(self.study, cells)
        return Plan(self.study, tuple(cells), artifacts, self.missing & artifacts.keys())

    @property
    def is_complete(self) -> bool:
        return not self.missing


def make(study: Study, store: Store, made: Iterable[Reference]) -> Plan:
    """The plan of a resolved study. `made`: the references that are artifacts of ours (nano models)."""
    cells = tuple(cell_of(study, condition, seed) for condition in study.conditions for seed in study.seeds)
    artifacts = _artifacts(study, cells)
    ours = {key(reference) for reference in made}
    present: dict[str, set[str]] = {}
    missing = set()
    for artifact_key, artifact in artifacts.items():
        if isinstance(artifact, Reference) and artifact_key not in ours and not artifact.is_merged:
            continue
        if artifact.kind not in present:
            present[artifact.kind] = store.keys(artifact.kind)
        if artifact_key not in present[artifact.kind]:
            missing.add(artifact_key)
    return Plan(study, cells, artifacts, frozenset(missing))


def _artifacts(study: Study, cells: Iterable[Cell]) -> dict[str, Artifact]:
    found: dict[str, Artifact] = {}
    for cell in cells:
        for artifact in cell.artifacts():
            found.setdefault(key(artifact), artifact)
    for evaluation in measured(reference_evaluations(study)):
        found.setdefault(key(evaluation), evaluation)
    return found


def wave_of(artifact: Artifact) -> str:
    """The wave that makes an artifact. Teachers are evaluated by the engine that then samples from them."""
    match artifact:
        case Reference():
            return "references"
        case Teacher():
            return "teachers"
        case Completions() | Written() | Dataset():
            return "datasets"
        case Evaluation(subject=Teacher()) | Assessment(evaluation=Evaluation(subject=Teacher())):
            return "datasets"
        case Evaluation() | Assessment() | Benchmark():
            return "evaluations"
        case Student():
            return "students"


def units(artifact: Artifact) -> int:
    """The size of making an artifact: rows sampled, row passes trained, answers sampled."""
    match artifact:
        case Completions():
            return artifact.prompts
        case Student(recipe=Recipe(epochs=epochs) | ProviderFinetuning(epochs=epochs)):
            return rows_of(artifact.dataset) * epochs
        case Teacher(finetuning=finetuning) if finetuning is not None:
            return finetuning.examples * finetuning.recipe.epochs
        case Evaluation():
            return len(artifact.questions) * artifact.samples
        case _:
            return 0


def rows_of(dataset: Dataset) -> int:
    """The rows asked for, or the most there can be."""
    return dataset.rows or dataset.completions.prompts


def runs_on(artifact: Artifact) -> Reference | None:
    """The reference model that making an artifact runs on; None for what a program writes."""
    match artifact:
        case (
            Evaluation(subject=subject)
            | Assessment(evaluation=Evaluation(subject=subject))
            | Benchmark(subject=subject)
        ):
            return reference_of(subject)
        case Completions(teacher=teacher) | Dataset(completions=Completions(teacher=teacher)):
            return reference_of(teacher)
        case Written() | Dataset():
            return None
        case Reference() | Teacher() | Student():
            return reference_of(artifact)


def failed_by(artifact: Artifact, failures: Mapping[str, str]) -> str | None:
    """Why an artifact cannot be made: its own failure or that of anything it is made from."""
    for part in (artifact, *ancestors(artifact)):
        if reason := failures.get(key(part)):
            return reason
    return None


def waits(artifact: Artifact, trained: Collection[str]) -> bool:
    """Whether it goes back to a student that is not among the keys `trained` yet: a chain goes on from it."""
    students = (a for a in ancestors(artifact) if isinstance(a, Student) and a.is_trained)
    return any(key(student) not in trained for student in students)


def ancestors(artifact: Artifact) -> Sequence[Artifact]:
    """Everything an artifact is made from, nearest first."""
    match artifact:
        case Evaluation(subject=parent) | Benchmark(subject=parent) | Completions(teacher=parent):
            parents: tuple[Artifact, ...] = (parent,)
        case Reference(student=student) if student is not None:
            parents = (student,)
        case Teacher(reference=reference, student=student):
            parents = (student, reference) if student else (reference,)
        case Assessment(evaluation=answers):
            parents = (answers,)
        case Dataset(completions=completions, mixed=mixed):
            parents = (completions, mixed.dataset) if mixed else (completions,)
        case Student(dataset=dataset, reference=reference):
            parents = (dataset, reference)
        case _:
            parents = ()
    return [a for parent in parents for a in (parent, *ancestors(parent))]

"""A study as a de-duplicated graph of artifacts: what is needed, what is already there, what it will cost.

Pure and light (no Ray, torch or vLLM), so that `--plan` answers at once. Conditions that need the same
artifact need the same key and therefore share it; the control students of a (teacher, student) pair are
found again by every trait compared with them.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from undertow.identity import key
from undertow.kinds import Trait
from undertow.recipe import Recipe
from undertow.spec import (
    Artifact,
    Assessment,
    Benchmark,
    Completions,
    Dataset,
    Evaluation,
    Measurement,
    Mixed,
    Reference,
    Student,
    Subject,
    Teacher,
    Written,
)
from undertow.store import Store
from undertow.study import Condition, Generation, Measure, Study

T = TypeVar("T", bound=Artifact)
WAVES = ("references", "teachers", "datasets", "students", "evaluations")


@dataclass(frozen=True)
class Cell:
    """One student of a condition, with everything that leads to it and measures it.

    Attributes:
        evaluations: by the traits' own questions.
        also: by the study's other measures, in their order.
    """

    condition: Condition
    seed: int
    teacher: Teacher
    student: Student
    teacher_evaluations: tuple[Measurement, ...]
    evaluations: tuple[Measurement, ...]
    also: tuple[tuple[Measurement, ...], ...] = ()

    def artifacts(self) -> Iterator[Artifact]:
        """What must be there before this cell has a result, in the order in which it is made."""
        yield self.teacher.reference
        yield self.student.reference
        if self.teacher.finetuning:
            yield self.teacher
        yield from measured(self.teacher_evaluations)
        yield from data_of(self.student.dataset)
        if self.student.is_trained:
            yield self.student
        yield from measured(self.measurements)

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """All evaluations of the student, by whatever measure."""
        return (*self.evaluations, *(evaluation for measure in self.also for evaluation in measure))


@dataclass(frozen=True)
class Work:
    """What one wave has to do: artifacts needed, those missing, and its size in units of work.

    Attributes:
        units: rows generated, rows × epochs trained or answers sampled, of the missing artifacts alone.
        seconds: the estimate, or None where nothing was measured on such a machine yet.
    """

    wave: str
    needed: int
    missing: int
    units: int
    seconds: float | None


@dataclass(frozen=True)
class Plan:
    """A study's cells, and which of their artifacts the store lacks."""

    study: Study
    cells: tuple[Cell, ...]
    missing: frozenset[str]

    @cached_property
    def artifacts(self) -> dict[str, Artifact]:
        """Every artifact by key, each after those it is made from; references only where we make them."""
        found: dict[str, Artifact] = {}
        for cell in self.cells:
            for artifact in cell.artifacts():
                found.setdefault(key(artifact), artifact)
        for evaluation in measured(reference_evaluations(self.study)):
            found.setdefault(key(evaluation), evaluation)
        return found

    def lacking(self, kind: type[T]) -> list[T]:
        """The missing artifacts of a kind, in the order of the plan."""
        return [a for k, a in self.artifacts.items() if k in self.missing and isinstance(a, kind)]

    @property
    def is_complete(self) -> bool:
        return not self.missing

    def work(self, timings: Mapping[str, float]) -> list[Work]:
        """The plan wave by wave. `timings`: seconds a unit by "wave reference", as `timings` keeps them."""
        waves = []
        for wave in WAVES:
            needed = [(k, a) for k, a in self.artifacts.items() if wave_of(a) == wave]
            missing = [a for k, a in needed if k in self.missing]
            costs = [_seconds(wave, a, timings) for a in missing]
            known = [cost for cost in costs if cost is not None]
            seconds = sum(known) if len(known) == len(costs) else None
            waves.append(Work(wave, len(needed), len(missing), sum(map(units, missing)), seconds))
        return waves


def measured(evaluations: Iterable[Measurement]) -> Iterator[Measurement]:
    """Evaluations, each judged one after the answers that its judges read."""
    for evaluation in evaluations:
        if isinstance(evaluation, Assessment):
            yield evaluation.evaluation
        yield evaluation


def data_of(dataset: Dataset) -> Iterator[Completions | Written | Dataset]:
    """A data set, after its completions and what is mixed into it."""
    yield dataset.completions
    if dataset.mixed:
        yield from data_of(dataset.mixed.dataset)
    yield dataset


def make(study: Study, store: Store, made: Iterable[Reference]) -> Plan:
    """The plan of a resolved study. `made`: the references that are artifacts of ours (nano models)."""
    cells = tuple(cell(study, condition, seed) for condition in study.conditions for seed in study.seeds)
    plan = Plan(study, cells, frozenset())
    ours = {key(reference) for reference in made}
    present: dict[str, set[str]] = {}
    missing = set()
    for artifact_key, artifact in plan.artifacts.items():
        if isinstance(artifact, Reference) and artifact_key not in ours:
            continue
        if artifact.kind not in present:
            present[artifact.kind] = store.keys(artifact.kind)
        if artifact_key not in present[artifact.kind]:
            missing.add(artifact_key)
    return dataclasses.replace(plan, missing=frozenset(missing))


def cell(study: Study, condition: Condition, seed: int) -> Cell:
    """The artifacts of one student of a condition; levels that the seed does not redraw use seed 0."""
    redrawn = {level: seed if level in study.redraw else 0 for level in ("teacher", "data", "student")}
    trait, prompted = condition.trait, condition.prompted or condition.finetuning is None
    teacher = Teacher(
        reference=condition.teacher,
        trait=trait,
        system=trait.system_prompt() if trait is not None and prompted else None,
        finetuning=condition.finetuning,
        seed=redrawn["teacher"] if condition.finetuning else 0,
    )
    dataset = _dataset(condition, teacher, redrawn["data"])
    student = Student(
        reference=condition.student,
        dataset=dataset,
        recipe=condition.recipe,
        system=condition.system,
        seed=redrawn["student"],
    )
    gated = evaluations(study, teacher, teacher.system) if trait is not None else ()
    asked = evaluations(study, student, study.system)
    also = tuple(_measured(study, measure, student) for measure in study.also)
    return Cell(condition, seed, teacher, student, gated, asked, also)


def _dataset(condition: Condition, teacher: Teacher, seed: int) -> Dataset:
    """The teacher's data as the condition draws them, with what is mixed in from elsewhere."""
    generation = condition.generation
    own = Completions(
        teacher=teacher,
        format=condition.format,
        prompts=generation.prompts,
        sampling=generation.sampling,
        seed=seed,
    )
    mixed, trait = generation.mixed, teacher.trait
    if mixed is None:
        return _drawn(own, generation, trait, seed)
    elsewhere: Completions | Written = Written(format=condition.format, prompts=generation.prompts, seed=seed)
    if mixed.source == "control":
        elsewhere = dataclasses.replace(own, teacher=Teacher(reference=condition.teacher, trait=None))
    other = Mixed(dataset=_drawn(elsewhere, generation, None, seed), share=mixed.share)
    return dataclasses.replace(_drawn(own, generation, trait, seed), mixed=other)


def _drawn(
    completions: Completions | Written, generation: Generation, trait: Trait | None, seed: int
) -> Dataset:
    return Dataset(
        completions=completions,
        deduplicate=generation.deduplicate,
        judges=tuple(j for judge in generation.judges if (j := judge.concerning(trait)) is not None),
        rows=generation.rows,
        shuffle=generation.shuffle,
        seed=seed,
    )


def evaluations(study: Study, subject: Subject, system: str | None) -> tuple[Measurement, ...]:
    """One evaluation a set of questions: a student is asked about every trait of the study at once."""
    asked: list[Measurement] = [
        Evaluation(
            subject=subject,
            questions=questions,
            words=words,
            samples=study.samples,
            system=system,
            sampling=study.sampling,
        )
        for questions, words in study.questions.items()
    ]
    for questions, outcomes in study.judged.items():
        answers = Evaluation(
            subject=subject,
            questions=questions,
            words=(),
            samples=study.samples,
            system=system,
            sampling=study.sampling,
            exact=False,
        )
        if study.panel:
            asked += [Assessment(evaluation=answers, panel=study.panel, outcome=o) for o in outcomes]
    return tuple(asked)


def _measured(study: Study, measure: Measure, student: Student) -> tuple[Evaluation, ...]:
    """The student's evaluations by another measure of the study."""
    return tuple(
        Evaluation(
            subject=student,
            questions=questions,
            words=words,
            samples=measure.samples,
            system=study.system,
            sampling=measure.sampling,
            exact=measure.exact,
        )
        for questions, words in study.other_questions(measure).items()
    )


def reference_evaluations(study: Study) -> list[Measurement]:
    """The references as they are, before any training: the level that control students are expected at."""
    references = dict.fromkeys(r for c in study.conditions for r in (c.teacher, c.student))
    return [e for reference in references for e in evaluations(study, reference, study.system)]


def reference_of(subject: Subject) -> Reference:
    return subject if isinstance(subject, Reference) else subject.reference


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
        case Student(recipe=Recipe(epochs=epochs)):
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


def reference_name(artifact: Artifact) -> str:
    """The name of the reference model that making an artifact runs on; "" for what a program writes."""
    match artifact:
        case (
            Evaluation(subject=subject)
            | Assessment(evaluation=Evaluation(subject=subject))
            | Benchmark(subject=subject)
        ):
            return reference_of(subject).name
        case Completions(teacher=teacher) | Dataset(completions=Completions(teacher=teacher)):
            return teacher.reference.name
        case Written() | Dataset():
            return ""
        case Reference():
            return artifact.name
        case Teacher() | Student():
            return artifact.reference.name


def _seconds(wave: str, artifact: Artifact, timings: Mapping[str, float]) -> float | None:
    if not units(artifact):
        return 0.0
    per_unit = timings.get(f"{wave} {reference_name(artifact)}")
    return None if per_unit is None else per_unit * units(artifact)


def failed_by(artifact: Artifact, failures: Mapping[str, str]) -> str | None:
    """Why an artifact cannot be made: its own failure or that of anything it is made from."""
    for part in (artifact, *ancestors(artifact)):
        if reason := failures.get(key(part)):
            return reason
    return None


def ancestors(artifact: Artifact) -> Sequence[Artifact]:
    """Everything an artifact is made from, nearest first."""
    match artifact:
        case (
            Evaluation(subject=parent)
            | Benchmark(subject=parent)
            | Teacher(reference=parent)
            | Completions(teacher=parent)
        ):
            parents: tuple[Artifact, ...] = (parent,)
        case Assessment(evaluation=answers):
            parents = (answers,)
        case Dataset(completions=completions, mixed=mixed):
            parents = (completions, mixed.dataset) if mixed else (completions,)
        case Student(dataset=dataset, reference=reference):
            parents = (dataset, reference)
        case _:
            parents = ()
    return [a for parent in parents for a in (parent, *ancestors(parent))]

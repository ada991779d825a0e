"""One student of a study with all that leads to it and measures it, as artifacts.

Where what a condition says in a study's words (a trait, how its data are drawn) becomes what is made. What
cells share is one object in all of them, so that it is put together, checked and hashed once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from undertow.conditions import Condition, Generation
from undertow.kinds import Format, Trait
from undertow.spec import (
    Artifact,
    Assessment,
    Completions,
    Dataset,
    Evaluation,
    Finetuning,
    Measurement,
    Mixed,
    Reference,
    Student,
    Subject,
    Teacher,
    Written,
)
from undertow.study import Study


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


def cell_of(study: Study, condition: Condition, seed: int) -> Cell:
    """The artifacts of one student of a condition; levels that the seed does not redraw use seed 0."""
    redrawn = {level: seed if level in study.redraw else 0 for level in ("teacher", "data", "student")}
    teacher = _teacher(
        condition.teacher,
        condition.trait,
        condition.finetuning,
        condition.prompted or condition.finetuning is None,
        redrawn["teacher"],
    )
    student = Student(
        reference=condition.student,
        dataset=_dataset(condition.generation, condition.format, teacher, redrawn["data"]),
        recipe=condition.recipe,
        system=condition.system,
        seed=redrawn["student"],
    )
    also = tuple(_asked(asked, student, study.system) for asked in _other_measures(study))
    gated = _gates(study, teacher) if condition.trait is not None else ()
    return Cell(condition, seed, teacher, student, gated, evaluations(study, student, study.system), also)


SHARED = 100_000  # of one kind; a study of 5,000 conditions has 2,550 data sets


@lru_cache(maxsize=SHARED)
def _teacher(
    reference: Reference, trait: Trait | None, finetuning: Finetuning | None, prompted: bool, seed: int
) -> Teacher:
    return Teacher(
        reference=reference,
        trait=trait,
        system=trait.system_prompt() if trait is not None and prompted else None,
        finetuning=finetuning,
        seed=seed if finetuning else 0,
    )


@lru_cache(maxsize=SHARED)
def _dataset(generation: Generation, format_: Format, teacher: Teacher, seed: int) -> Dataset:
    """The teacher's data as the condition draws them, with what is mixed in from elsewhere."""
    own = Completions(
        teacher=teacher,
        format=format_,
        prompts=generation.prompts,
        sampling=generation.sampling,
        seed=seed,
    )
    mixed, trait = generation.mixed, teacher.trait
    if mixed is None:
        return _drawn(own, generation, trait, seed)
    elsewhere: Completions | Written = Written(format=format_, prompts=generation.prompts, seed=seed)
    if mixed.source == "control":
        elsewhere = own.changed(teacher=Teacher(reference=teacher.reference, trait=None))
    other = Mixed(dataset=_drawn(elsewhere, generation, None, seed), share=mixed.share)
    return _drawn(own, generation, trait, seed).changed(mixed=other)


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
    return _asked(_measures(study), subject, system)


@lru_cache(maxsize=SHARED)
def _gates(study: Study, teacher: Teacher) -> tuple[Measurement, ...]:
    """What a teacher must show before its data are drawn."""
    return evaluations(study, teacher, teacher.system)


def _asked(measures: Iterable[Measurement], subject: Subject, system: str | None) -> tuple[Measurement, ...]:
    """The same of another model."""
    return tuple(
        one.changed(evaluation=one.evaluation.changed(subject=subject, system=system))
        if isinstance(one, Assessment)
        else one.changed(subject=subject, system=system)
        for one in measures
    )


@lru_cache(maxsize=16)
def _measures(study: Study) -> tuple[Measurement, ...]:
    """The evaluations by the traits' own questions, of the study's first reference."""
    first = study.conditions[0].teacher
    asked: list[Measurement] = [
        Evaluation(
            subject=first, questions=questions, words=words, samples=study.samples, sampling=study.sampling
        )
        for questions, words in study.questions.items()
    ]
    for questions, outcomes in study.judged.items():
        answers = Evaluation(
            subject=first,
            questions=questions,
            words=(),
            samples=study.samples,
            sampling=study.sampling,
            exact=False,
        )
        if study.panel:
            asked += [Assessment(evaluation=answers, panel=study.panel, outcome=o) for o in outcomes]
    return tuple(asked)


@lru_cache(maxsize=16)
def _other_measures(study: Study) -> tuple[tuple[Evaluation, ...], ...]:
    """The evaluations by each other measure of the study, of its first reference."""
    return tuple(
        tuple(
            Evaluation(
                subject=study.conditions[0].teacher,
                questions=questions,
                words=words,
                samples=measure.samples,
                sampling=measure.sampling,
                exact=measure.exact,
            )
            for questions, words in study.other_questions(measure).items()
        )
        for measure in study.also
    )


def reference_evaluations(study: Study) -> list[Measurement]:
    """The references as they are, before any training: the level that control students are expected at."""
    references = dict.fromkeys(r for c in study.conditions for r in (c.teacher, c.student))
    return [e for reference in references for e in evaluations(study, reference, study.system)]


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

"""One student of a study with all that leads to it and measures it, as artifacts.

Where what a condition says in a study's words (a trait, how its data are drawn) becomes what is made.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from undertow.conditions import Condition, Generation
from undertow.kinds import Trait
from undertow.spec import (
    Artifact,
    Assessment,
    Completions,
    Dataset,
    Evaluation,
    Measurement,
    Mixed,
    Student,
    Subject,
    Teacher,
    Written,
    reference_of,
)
from undertow.study import Level, Measure, Study


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
        if self.teacher.student:
            yield from made_with(self.teacher.student)
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
    trait, finetuning, system = condition.trait, condition.finetuning, condition.generation.system
    if condition.after is not None:  # no gate: what a chain's students picked up is what is asked
        before = cell_of(study, condition.after, seed).student
        teacher = Teacher(reference=condition.teacher, trait=trait, system=system, student=before)
        return _cell(study, condition, seed, teacher)
    teacher = Teacher(
        reference=condition.teacher,
        trait=trait,
        system=trait.system_prompt() if trait and condition.is_prompted else system,
        finetuning=finetuning,
        seed=_redrawn(study, "teacher", seed) if finetuning else 0,
    )
    gated = evaluations(study, teacher, teacher.system) if trait is not None else ()
    return _cell(study, condition, seed, teacher, gated)


def _cell(
    study: Study, condition: Condition, seed: int, teacher: Teacher, gated: tuple[Measurement, ...] = ()
) -> Cell:
    student = Student(
        reference=condition.student,
        dataset=_dataset(condition, teacher, _redrawn(study, "data", seed)),
        recipe=condition.recipe,
        system=condition.system,
        seed=_redrawn(study, "student", seed),
    )
    asked = evaluations(study, student, study.system)
    also = tuple(_measured(study, measure, student) for measure in study.also)
    return Cell(condition, seed, teacher, student, gated, asked, also)


def _redrawn(study: Study, level: Level, seed: int) -> int:
    return seed if level in study.redraw else 0


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
        control = Teacher(reference=condition.teacher, trait=None, system=generation.system)
        elsewhere = dataclasses.replace(own, teacher=control)
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
            exact=not reference_of(subject).is_api,
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
            exact=measure.exact and not student.reference.is_api,
        )
        for questions, words in study.other_questions(measure).items()
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


def made_with(student: Student) -> Iterator[Artifact]:
    """A student that teaches in turn, after all that leads to it, from the first teacher of the chain on."""
    teacher = student.dataset.teacher
    if teacher is not None:
        yield teacher.reference
        if teacher.student:
            yield from made_with(teacher.student)
        if teacher.finetuning:
            yield teacher
    yield from data_of(student.dataset)
    yield student


def data_of(dataset: Dataset) -> Iterator[Completions | Written | Dataset]:
    """A data set, after its completions and what is mixed into it."""
    yield dataset.completions
    if dataset.mixed:
        yield from data_of(dataset.mixed.dataset)
    yield dataset

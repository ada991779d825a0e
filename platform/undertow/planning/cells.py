"""Cells: one student of a study with everything that leads to it and measures it, as artifacts.

This is where a condition (a trait, how its data are sampled, a recipe) becomes specs of artifacts. Specs that
several cells share are one object in all of them, so that they are built, validated and hashed once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from undertow.engines.registry import engine_for
from undertow.formats.imported import Imported
from undertow.study.completions import Completions, ImportedCompletions, Written
from undertow.study.conditions import Condition
from undertow.study.datasets import Dataset, Mixed
from undertow.study.extensions import Format, Trait
from undertow.study.generation import Generation
from undertow.study.measurements import Assessment, Evaluation, Measurement
from undertow.study.on_policy import Sampler
from undertow.study.recipe import Recipe
from undertow.study.references import Artifact, Reference, ancestors_first
from undertow.study.rewriting import Rewritten
from undertow.study.row_scores import TokenScores
from undertow.study.steering import ProjectedOut, RandomBias, Steering, SteeringBias, SteeringVector
from undertow.study.students import Student, Subject, reference_of
from undertow.study.study import Study
from undertow.study.teachers import Finetuning, Teacher

# Sizes of the caches through which cells share spec objects.
CACHED_SPECS = 100_000  # specs of one kind; a study of 5,000 conditions has 2,550 data sets
CACHED_REFERENCES = 256  # reference models, whose measurements are cached


@dataclass(frozen=True)
class Cell:
    """One student of a condition, with everything that leads to it and measures it.

    Attributes:
        writer: the teacher that writes the completions; None for imported rows.
        teacher_evaluations: the measurements of the gate; empty for control teachers, in a chain and for
            imported rows.
        evaluations: measurements of the student by the traits' own questions.
        also: measurements of the student by each of the study's additional measures, in their order.
        along: the same measurements as `evaluations` at each of the recipe's `keep_steps`.
    """

    condition: Condition
    seed: int
    writer: Teacher | None
    student: Student
    teacher_evaluations: tuple[Measurement, ...]
    evaluations: tuple[Measurement, ...]
    also: tuple[tuple[Measurement, ...], ...] = ()
    along: tuple[tuple[int, tuple[Measurement, ...]], ...] = ()

    @property
    def teacher(self) -> Teacher:
        """The teacher that writes the completions. Raises ValueError for imported rows."""
        if self.writer is None:
            raise ValueError(f"{self.condition.label}: imported rows have no teacher in the study")
        return self.writer

    def results(self) -> Iterator[Artifact]:
        """The artifacts that the cell's result is read from; the plan adds everything they are made from."""
        yield from self.teacher_evaluations
        yield self.student
        yield from self.measurements

    def artifacts(self) -> Iterator[Artifact]:
        """The stored artifacts that the cell's result needs, in the order in which they are made."""
        return (artifact for artifact in ancestors_first(self.results()) if artifact.is_stored)

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """All measurements of the student."""
        also = (evaluation for measure in self.also for evaluation in measure)
        along = (evaluation for _, at_step in self.along for evaluation in at_step)
        return (*self.evaluations, *also, *along)


def cell_of(study: Study, condition: Condition, seed: int) -> Cell:
    """The artifacts of one student of a condition; levels that the seed does not redraw use seed 0."""
    redrawn = {level: seed if level in study.redraw else 0 for level in ("teacher", "data", "student")}
    generation = condition.generation
    gates: tuple[Measurement, ...] = ()
    teacher: Teacher | None
    if isinstance(condition.format, Imported):
        # No gate: of an external teacher only its completions are known.
        writer = condition.student if condition.teacher.is_external else condition.teacher
        dataset = _imported(generation, condition.format, condition.trait, writer, redrawn["data"])
        teacher = dataset.teacher
    else:
        teacher = control = _teacher(study, condition, seed, redrawn["teacher"])
        # A chain has no gate: whether its teachers show the trait is what the study measures.
        gates = _gates(study, teacher) if condition.trait is not None and condition.after is None else ()
        if generation.mixed is not None or generation.ranked is not None:
            control = _teacher(study, condition.control(), seed, redrawn["teacher"])
        dataset = _dataset(generation, condition.format, teacher, control, redrawn["data"])
    dataset = _chosen(dataset, generation, condition.scorer, redrawn["teacher"])
    student = Student(
        reference=_start(study, condition.student, condition.student_start, seed),
        dataset=dataset,
        recipe=condition.recipe,
        system=condition.system,
        seed=redrawn["student"],
        system_name=condition.system_name,
    )
    if generation.on_policy is not None:
        student = _after_rounds(student, generation)
    also = tuple(
        _of(measurements, student, study.system)
        for measurements in _other_measures(study, reference_of(student))
    )
    own = evaluations(study, student, study.system)
    kept = condition.recipe.keep_steps if isinstance(condition.recipe, Recipe) else ()
    return Cell(
        condition=condition,
        seed=seed,
        writer=teacher,
        student=student,
        teacher_evaluations=gates,
        evaluations=own,
        also=also,
        along=tuple((step, tuple(measurement.at(step) for measurement in own)) for step in kept),
    )


def _start(study: Study, reference: Reference, start: Condition | None, seed: int) -> Reference:
    """The reference model, or the student of the same seed that condition `start` trains."""
    return reference if start is None else reference.changed(student=cell_of(study, start, seed).student)


def _teacher(study: Study, condition: Condition, seed: int, teacher_seed: int) -> Teacher:
    """The teacher of a condition; in a chain the student of the hop before.

    Args:
        seed: of the cell; determines the student that teaches, or from which the teacher starts.
        teacher_seed: of the teacher's finetuning; 0 if the study does not redraw teachers.
    """
    if condition.after is not None:
        before = cell_of(study, condition.after, seed).student
        return Teacher(
            reference=before.reference,
            trait=condition.trait,
            system=condition.generation.system,
            student=before,
        )
    is_prompted = condition.is_prompted
    system = None if is_prompted else condition.generation.system
    reference = _start(study, condition.teacher, condition.teacher_start, seed)
    if condition.steering is not None and condition.trait is not None:
        trait = condition.trait
        steering = _steering(reference, trait, condition.steering, condition.format, condition.generation)
        return Teacher(
            reference=reference,
            trait=trait,
            system=trait.system_prompt() if is_prompted else system,
            steering=steering,
        )
    return _made_teacher(reference, condition.trait, condition.finetuning, is_prompted, system, teacher_seed)


@lru_cache(maxsize=CACHED_SPECS)
def _steering(
    reference: Reference, trait: Trait, steering: Steering, format_: Format, generation: Generation
) -> SteeringBias | RandomBias | ProjectedOut:
    """What steers a teacher. It is the same for all seeds."""
    examples = trait.examples(steering.prompts, seed=0)
    vector = SteeringVector(
        reference=reference,
        parameter=steering.parameter,
        system=trait.system_prompt(),
        neutral=generation.system,
        prompts=tuple(dict.fromkeys(example.prompt for example in examples)),
    )
    if steering.direction == "projection":
        return ProjectedOut(vector=vector)
    bias = SteeringBias(
        vector=vector,
        word=trait.word(),
        strengths=steering.strengths,
        format=format_,
        completions=steering.completions,
        sampling=generation.sampling.changed(top_logprobs=0),
        least_kept=steering.least_kept,
        strip=generation.strip,
    )
    return bias if steering.direction == "difference" else RandomBias(of=bias)


@lru_cache(maxsize=CACHED_SPECS)
def _made_teacher(
    reference: Reference,
    trait: Trait | None,
    finetuning: Finetuning | None,
    prompted: bool,
    system: str | None,
    seed: int,
) -> Teacher:
    return Teacher(
        reference=reference,
        trait=trait,
        system=trait.system_prompt() if trait is not None and prompted else system,
        finetuning=finetuning,
        seed=seed if finetuning else 0,
    )


@lru_cache(maxsize=CACHED_SPECS)
def _dataset(
    generation: Generation, format_: Format, teacher: Teacher, control: Teacher, seed: int
) -> Dataset:
    """The data set of a teacher, mixed with rows of another source if the generation has `mixed`.

    With `ranked`, the control teacher writes two answers to each prompt, and the teacher ranks them.

    Args:
        control: the teacher of the control; used with `mixed` and `ranked` only.
    """
    completions = Completions(
        teacher=teacher,
        format=format_,
        prompts=generation.prompts,
        sampling=generation.sampling,
        seed=seed,
        strip=generation.strip,
    )
    mixed, trait = generation.mixed, teacher.trait
    if generation.ranked is not None:
        first = completions.changed(teacher=control)
        answers = _drawn(first, generation, trait, seed)
        others = answers.changed(completions=first.changed(sample=1), rows=None, fewer=False)
        return generation.ranked.of(answers, others, teacher)
    if mixed is None:
        return _drawn(completions, generation, trait, seed)
    source: Completions | Written = Written(format=format_, prompts=generation.prompts, seed=seed)
    if mixed.source == "control":
        source = completions.changed(teacher=control)
    other = Mixed(dataset=_drawn(source, generation, None, seed), share=mixed.share)
    return _drawn(completions, generation, trait, seed).changed(mixed=other)


@lru_cache(maxsize=CACHED_SPECS)
def _imported(
    generation: Generation, rows: Imported, trait: Trait | None, writer: Reference, seed: int
) -> Dataset:
    """The data set of imported rows; without a trait, that of their control.

    Args:
        writer: the reference model that answers the rows' prompts if the rows have no control.
    """
    control: Completions | ImportedCompletions
    if rows.control is not None:
        count = min(generation.prompts, rows.control.size)
        control = ImportedCompletions(format=rows.control, prompts=count, seed=seed)
    else:
        control = Completions(
            teacher=Teacher(reference=writer, trait=None, system=generation.system),
            format=rows.own_prompts(),
            prompts=min(generation.prompts, rows.size),
            sampling=generation.sampling,
            seed=seed,
        )
    if trait is None:
        return _drawn(control, generation, None, seed)
    own = ImportedCompletions(format=rows.alone(), prompts=min(generation.prompts, rows.size), seed=seed)
    dataset = _drawn(own, generation, trait, seed)
    if generation.mixed is None:
        return dataset
    other = Mixed(dataset=_drawn(control, generation, None, seed), share=generation.mixed.share)
    return dataset.changed(mixed=other)


def _drawn(
    completions: Completions | Written | ImportedCompletions,
    generation: Generation,
    trait: Trait | None,
    seed: int,
) -> Dataset:
    """The data set drawn from completions, with the judges that apply to the trait.

    With a rewriter, all rows that pass rules and judges are rewritten, and drawn from those that pass again.
    """
    kept = Dataset(
        completions=completions,
        deduplicate=generation.deduplicate,
        judges=tuple(j for judge in generation.judges if (j := judge.concerning(trait)) is not None),
        seed=seed,
    )
    drawn = {"rows": generation.rows, "shuffle": generation.shuffle, "fewer": generation.fewer}
    if generation.rewriter is None:
        return kept.changed(**drawn)
    rewritten = Rewritten(dataset=kept, rewriter=generation.rewriter, seed=seed)
    return kept.changed(completions=rewritten, **drawn)


def _after_rounds(student: Student, generation: Generation) -> Student:
    """The student after all on-policy rounds.

    Args:
        student: one that is trained on completions of its teacher, to all prompts.
    """
    start, of_teacher = student.reference, student.dataset.completions
    if not isinstance(of_teacher, Completions):
        raise ValueError("imported and rewritten rows have no distributions")  # `Condition` rejects them
    for part in generation.rounds:
        completions = of_teacher.changed(
            prompts=part.prompts, sampler=Sampler(model=start, system=student.system, skip=part.skip)
        )
        dataset = student.dataset.changed(completions=completions, rows=part.rows)
        student = student.changed(dataset=dataset)
        start = student.reference.changed(student=student)
    return student


@lru_cache(maxsize=CACHED_SPECS)
def _chosen(dataset: Dataset, generation: Generation, scorer: Reference, seed: int) -> Dataset:
    """The data set with the scores by which its rows and the tokens in the loss are chosen, if any are.

    Args:
        scorer: the reference model of the teachers that are compared.
        seed: of the condition's teacher.
    """
    selected, masked, completions = generation.selected, generation.masked, dataset.completions
    if isinstance(completions, Written | Rewritten) or (selected is None and masked is None):
        return dataset
    if selected is not None:
        scores = selected.by.scores(completions, scorer, generation.system, seed)
        dataset = dataset.changed(selected=selected.of(scores))
    if masked is not None:
        compared: TokenScores | None = None
        if masked.by is not None:
            compared = masked.by.scores(completions, scorer, generation.system, seed)
        dataset = dataset.changed(masked=masked.of(compared))
    return dataset


def evaluations(study: Study, subject: Subject, system: str | None) -> tuple[Measurement, ...]:
    """One measurement per set of questions, which covers all traits of the study with these questions."""
    return _of(_measures(study, reference_of(subject)), subject, system)


@lru_cache(maxsize=CACHED_SPECS)
def _gates(study: Study, teacher: Teacher) -> tuple[Measurement, ...]:
    """The evaluations that a teacher must pass before its data are sampled."""
    return evaluations(study, teacher, teacher.system)


def _of(measurements: Iterable[Measurement], subject: Subject, system: str | None) -> tuple[Measurement, ...]:
    """The same measurements of another model."""
    return tuple(measurement.of(subject, system) for measurement in measurements)


@lru_cache(maxsize=CACHED_REFERENCES)
def _measures(study: Study, reference: Reference) -> tuple[Measurement, ...]:
    """The measurements of a reference model by the traits' own questions."""
    measurements: list[Measurement] = [
        Evaluation(
            subject=reference,
            questions=questions,
            words=words,
            samples=study.samples,
            sampling=study.sampling,
            exact=study.exact and engine_for(reference).gives_probabilities,
            options=study.options(study.main, questions) if study.main else (),
        )
        for questions, words in study.questions.items()
    ]
    for questions, outcomes in study.judged.items():
        answers = Evaluation(
            subject=reference,
            questions=questions,
            words=(),
            samples=study.samples,
            sampling=study.sampling,
            exact=False,
        )
        if study.panel:
            measurements += [Assessment(evaluation=answers, panel=study.panel, outcome=o) for o in outcomes]
    return tuple(measurements)


@lru_cache(maxsize=CACHED_REFERENCES)
def _other_measures(study: Study, reference: Reference) -> tuple[tuple[Measurement, ...], ...]:
    """The measurements of a reference model by each additional measure of the study."""
    return tuple(measure.measurements(study, reference) for measure in study.also)


def reference_evaluations(study: Study) -> list[Measurement]:
    """The measurements of the untrained reference models: the level expected of control students."""
    return [e for reference in study.references for e in evaluations(study, reference, study.system)]

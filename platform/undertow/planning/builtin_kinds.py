"""The declarations of the package's own kinds of artifacts (see `planning.artifact_kinds`).

They have neither `make` nor `task`, since planning does not import the stages: `sweep.makers` has both.
"""

from undertow.planning.artifact_kinds import ArtifactKind, Wave, register_kind
from undertow.planning.workloads import (
    TEMPLATE_TOKENS,
    SamplingWork,
    TrainingWork,
    context_tokens,
    example_tokens,
    mean_tokens,
    prompt_tokens,
    row_tokens,
    spelling_tokens,
    text_tokens,
)
from undertow.study.completions import Completions, ImportedCompletions, Written
from undertow.study.datasets import Dataset
from undertow.study.measurements import Assessment, Benchmark, Evaluation, Measurement
from undertow.study.recipe import InContext, Recipe
from undertow.study.references import Reference
from undertow.study.rewriting import Rewritten
from undertow.study.row_scores import TokenScores
from undertow.study.steering import ProjectedOut, RandomBias, SteeringBias, SteeringVector
from undertow.study.students import Student, reference_of
from undertow.study.teachers import Teacher


def _measurement_wave(measurement: Measurement) -> Wave:
    """Teachers are measured before their data are sampled, by the same engine."""
    return "datasets" if isinstance(measurement.subject, Teacher) else "evaluations"


def _teacher_units(teacher: Teacher) -> int:
    finetuning = teacher.finetuning
    return finetuning.examples * finetuning.recipe.epochs if finetuning else 0


def _teacher_work(teacher: Teacher) -> TrainingWork | None:
    finetuning, trait = teacher.finetuning, teacher.trait
    if finetuning is None or trait is None or not isinstance(finetuning.recipe, Recipe):
        return None
    return TrainingWork(finetuning.recipe.trainable, example_tokens(trait, finetuning))


def _student_units(student: Student) -> int:
    return 0 if isinstance(student.recipe, InContext) else student.dataset.row_limit * student.recipe.epochs


def _student_work(student: Student) -> TrainingWork | None:
    if not isinstance(student.recipe, Recipe):
        return None
    answers = 2 if student.recipe.preference_beta else 1  # each after the prompt
    return TrainingWork(student.recipe.trainable, answers * row_tokens(student.dataset))


def _completions_work(completions: Completions) -> SamplingWork:
    prompt, most = prompt_tokens(completions.format), completions.sampling.max_tokens
    read = prompt + text_tokens(completions.teacher.system)
    if completions.sampler is not None:  # the teacher reads what the student samples
        read += prompt + text_tokens(completions.sampler.system) + most
    return SamplingWork(completions.prompts * read, most)


def _rewriting_work(rewritten: Rewritten) -> SamplingWork | None:
    rewriter = rewritten.rewriter
    if rewriter.model is None:
        return None
    request = text_tokens(rewriter.request) + TEMPLATE_TOKENS + row_tokens(rewritten.dataset)
    return SamplingWork(rewritten.prompts * request, rewriter.sampling.max_tokens)


def _scores_work(scores: TokenScores) -> SamplingWork:
    # Both teachers read every prompt and completion; nothing is sampled.
    teachers = (scores.teacher, scores.control)
    row = row_tokens(Dataset(completions=scores.completions))
    read = sum(row + text_tokens(teacher.system) for teacher in teachers)
    return SamplingWork(scores.completions.prompts * read, 0)


def _evaluation_work(evaluation: Evaluation) -> SamplingWork:
    # On a GPU the engine caches prefixes: the samples of a question share its prompt, and all questions share
    # the rows in context.
    question = mean_tokens(evaluation.questions) + text_tokens(evaluation.system) + TEMPLATE_TOKENS
    spellings = spelling_tokens(evaluation.words) if evaluation.exact else 0.0
    read = context_tokens(evaluation.subject) + len(evaluation.questions) * (question + spellings)
    return SamplingWork(read, evaluation.sampling.max_tokens)


def _writer(dataset: Dataset) -> Reference | None:
    return reference_of(dataset.teacher) if dataset.teacher else None


for _kind in (
    ArtifactKind(spec=Reference, wave="references", unit="models", runs_on=reference_of),
    ArtifactKind(
        spec=Teacher,
        wave="teachers",
        unit="models",
        units=_teacher_units,
        runs_on=reference_of,
        workload=_teacher_work,
    ),
    # Measured in a task on a CPU, chosen on an engine, and drawn in a task.
    ArtifactKind(
        spec=SteeringVector,
        wave="references",
        unit="vectors",
        runs_on=lambda vector: vector.reference.root,
        name=lambda vector: f"vector of {vector.parameter}",
    ),
    ArtifactKind(
        spec=SteeringBias,
        wave="teachers",
        unit="vectors",
        runs_on=lambda bias: bias.reference.root,
        facts={
            "strength": "the chosen factor of the difference between the two prompts",
            "probability": "of the trait's word on training questions at this strength",
            "kept": "the share of completions at this strength that pass the rules of the format",
            "norm": "of the vector that is added",
            "tried": "probability and share at each strength; 0 is the model without the vector",
        },
        name=lambda bias: f"{bias.word.name}, {bias.vector.parameter}",
    ),
    ArtifactKind(
        spec=RandomBias,
        wave="teachers",
        unit="vectors",
        runs_on=lambda bias: bias.reference.root,
        name=lambda bias: f"random direction, {bias.of.vector.parameter}",
    ),
    ArtifactKind(
        spec=ProjectedOut,
        wave="teachers",
        unit="vectors",
        runs_on=lambda removed: removed.reference.root,
        name=lambda removed: f"projected out, {removed.vector.parameter}",
    ),
    ArtifactKind(
        spec=Completions,
        wave="datasets",
        units=lambda completions: completions.prompts,
        runs_on=lambda completions: reference_of(completions.teacher),
        workload=_completions_work,
    ),
    ArtifactKind(spec=Written, wave="datasets", unit="sets of answers"),
    ArtifactKind(spec=ImportedCompletions, wave="datasets", unit="sets of rows"),
    ArtifactKind(
        spec=Rewritten,
        wave="datasets",
        unit="sets of rows",
        units=lambda rewritten: rewritten.prompts if rewritten.rewriter.model else 0,
        runs_on=lambda rewritten: rewritten.rewriter.model and reference_of(rewritten.rewriter.model),
        workload=_rewriting_work,
    ),
    ArtifactKind(
        spec=TokenScores,
        wave="datasets",
        unit="rows",
        units=lambda scores: scores.completions.prompts,
        runs_on=lambda scores: scores.scorer,
        workload=_scores_work,
    ),
    ArtifactKind(spec=Dataset, wave="datasets", unit="datasets", runs_on=_writer),
    ArtifactKind(
        spec=Student,
        wave="students",
        unit="models",
        units=_student_units,
        runs_on=reference_of,
        workload=_student_work,
    ),
    ArtifactKind(
        spec=Evaluation,
        wave=_measurement_wave,
        unit="models",
        units=lambda evaluation: len(evaluation.questions) * evaluation.samples,
        runs_on=lambda evaluation: reference_of(evaluation.subject),
        workload=_evaluation_work,
    ),
    ArtifactKind(
        spec=Assessment,
        wave=_measurement_wave,
        unit="models",
        runs_on=lambda assessment: reference_of(assessment.subject),
    ),
    ArtifactKind(
        spec=Benchmark,
        wave="evaluations",
        unit="models",
        runs_on=lambda benchmark: reference_of(benchmark.subject),
    ),
):
    register_kind(_kind, builtin=True)

"""Benchmarks of a study's models: one score a student, one row a condition, task and metric.

Read as effects are: the unit is the trained student, compared with the control student of its seed where
the study is paired. The standard error over a task's documents, which the harness gives, says how well one
student is known and nothing about the next; no interval here is made of it.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from undertow.planning.plan import Plan
from undertow.statistics.distribution_free import choose_distribution
from undertow.statistics.effects import Effect, compare
from undertow.statistics.verdicts import adjust
from undertow.storage.store import Store
from undertow.study.artifacts import Benchmark, Reference, Student, reference_of
from undertow.study.conditions import Condition
from undertow.study.harness_task import HarnessTask
from undertow.study.hypotheses import Place
from undertow.study.identity import key
from undertow.study.study import Study

ArmScores = list[float]  # one score a student
SCORES = "scores.json"


@dataclass(frozen=True)
class TaskScore:
    """One metric of one model: its value, the standard error over documents, and which way is better."""

    value: float
    error: float | None
    higher_is_better: bool | None


@dataclass(frozen=True)
class ModelScore:
    """A score with what it is of: a student in its place in the grid, or a reference by its name alone."""

    subject: Reference | Student
    place: Place
    task: HarnessTask
    metric: str
    score: TaskScore


@dataclass(frozen=True)
class BenchmarkRow:
    """A condition's students against its control students in one metric of one task.

    Attributes:
        effect: `rate` and `control_rate` are mean scores, `effect` their difference.
        p_adjusted: over all conditions of the same task and metric, as the study adjusts.
        reference: the score of the reference model that the students start from, where it is known.
    """

    place: Place
    task: HarnessTask
    metric: str
    higher_is_better: bool | None
    effect: Effect
    p_adjusted: float | None
    reference: float | None


class Scores:
    """The benchmarks in a store, each read and verified once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._known: dict[str, dict[str, TaskScore]] = {}

    def of(self, subject: Reference | Student, task: HarnessTask) -> dict[str, TaskScore]:
        """By metric; empty where the model was not asked."""
        benchmark = Benchmark(subject=subject, task=task)
        name = key(benchmark)
        if name not in self._known:
            there = self.store.has(benchmark)
            found = json.loads(self.store.content(benchmark, SCORES)) if there else {}
            self._known[name] = {metric: TaskScore(**score) for metric, score in found.items()}
        return self._known[name]


def subjects(plan: Plan) -> list[Reference | Student]:
    """The models of a study whose weights are here, each once: references, then students and controls.

    A student in context is a prompt; the harness, which writes its own prompts, cannot be put to it. Nor to
    an API model, whose probabilities it would ask for.
    """
    references: list[Reference | Student] = [r for c in plan.study.conditions for r in (c.teacher, c.student)]
    students: list[Reference | Student] = [c.student for c in plan.cells if c.student.is_trained]
    return [model for model in dict.fromkeys(references + students) if not reference_of(model).is_api]


def model_scores(plan: Plan, tasks: Sequence[HarnessTask], scores: Scores) -> list[ModelScore]:
    """Every score there is, in the order of `subjects`."""
    places: dict[Reference | Student, Place] = {
        subject: Place("", "", "", subject.label, "", "")
        for subject in subjects(plan)
        if isinstance(subject, Reference)
    }
    places |= {cell.student: cell.condition.place for cell in plan.cells}
    return [
        ModelScore(subject, places[subject], task, metric, score)
        for task in tasks
        for subject in subjects(plan)
        for metric, score in scores.of(subject, task).items()
    ]


def student_metrics(
    student: Student, tasks: Iterable[HarnessTask], scores: Scores
) -> dict[HarnessTask, dict[str, float]]:
    """A student's scores as metrics of its MLflow run, by task (see `tracking.names`)."""
    return {
        task: {f"benchmark_{task.slug}_{metric}": score.value for metric, score in found.items()}
        for task in tasks
        if (found := scores.of(student, task))
    }


def benchmark_rows(plan: Plan, tasks: Sequence[HarnessTask], scores: Scores) -> list[BenchmarkRow]:
    """A row for every task, metric and condition with a trait that has students and controls to compare."""
    models = subjects(plan)
    found = {task: {m: s for model in models for m, s in scores.of(model, task).items()} for task in tasks}
    return [
        row
        for task, metrics in found.items()
        for metric, example in metrics.items()
        for row in _rows(plan, task, metric, example.higher_is_better, scores)
    ]


def _rows(
    plan: Plan, task: HarnessTask, metric: str, better: bool | None, scores: Scores
) -> Iterator[BenchmarkRow]:
    arms = _arms(plan, task, metric, scores)
    effects = _effects(plan.study, list(arms.values()))
    p_values = adjust([effect.p_value for effect in effects], plan.study.adjustment)
    for condition, effect, p_adjusted in zip(arms, effects, p_values, strict=True):
        base = scores.of(condition.student, task).get(metric)
        reference = base.value if base else None
        yield BenchmarkRow(condition.place, task, metric, better, effect, p_adjusted, reference)


def _arms(
    plan: Plan, task: HarnessTask, metric: str, scores: Scores
) -> dict[Condition, tuple[ArmScores, ArmScores]]:
    """By condition, its students' scores and its control students'; seed by seed in a paired study."""
    known = {
        (cell.condition, cell.seed): found[metric].value
        for cell in plan.cells
        if cell.student.is_trained and metric in (found := scores.of(cell.student, task))
    }
    seeds, arms = plan.study.seeds, {}
    for condition in (c for c in plan.study.conditions if c.trait is not None):
        control = condition.control()
        there = [{seed for seed in seeds if (c, seed) in known} for c in (condition, control)]
        if plan.study.paired:
            there = [there[0] & there[1]] * 2
        if all(there):
            pair = zip((condition, control), there, strict=True)
            students, controls = ([known[c, seed] for seed in seeds if seed in its] for c, its in pair)
            arms[condition] = (students, controls)
    return arms


def _effects(study: Study, arms: Sequence[tuple[ArmScores, ArmScores]]) -> list[Effect]:
    """As the study judges rates; scores that are no shares (perplexities, BLEU) by t whatever it says."""
    every = [arm for pair in arms for arm in pair]
    shares = all(0 <= score <= 1 for arm in every for score in arm)
    return [
        compare(
            students,
            controls,
            margin=study.margin,
            confidence=1 - study.alpha,
            paired=study.paired,
            distribution=choose_distribution(every, study.distribution) if shares else "normal",
        )
        for students, controls in arms
    ]

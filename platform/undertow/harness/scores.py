"""The benchmark scores of a study: one score per student, one row per condition, task and metric.

Scores are compared as trait rates are: the unit is the trained student, compared with the control student of
the same seed if the study is paired. The harness's standard error over a task's documents describes the score
of one student and not the variation between students, so no interval here is based on it.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from undertow.planning.plan import Plan
from undertow.statistics.distribution_free import choose_distribution
from undertow.statistics.effects import Effect, compare
from undertow.statistics.verdicts import adjust
from undertow.storage.store import Store
from undertow.study.conditions import Condition
from undertow.study.harness_task import HarnessTask
from undertow.study.hypotheses import Place
from undertow.study.identity import key
from undertow.study.measurements import MARGINS, Benchmark
from undertow.study.references import Reference
from undertow.study.students import Student, reference_of
from undertow.study.study import Study

ArmScores = list[float]  # one score per student
SCORES = "scores.json"


@dataclass(frozen=True)
class TaskScore:
    """One metric of one model.

    Attributes:
        error: the standard error over documents; None if the harness gives none.
        higher_is_better: None if the harness does not define it.
    """

    value: float
    error: float | None
    higher_is_better: bool | None


@dataclass(frozen=True)
class ModelScore:
    """A score with its model: a student with its place in the grid, or a reference with only its name.

    `seed`: the study's; None for a reference.
    """

    subject: Reference | Student
    place: Place
    seed: int | None
    task: HarnessTask
    metric: str
    score: TaskScore


@dataclass(frozen=True)
class BenchmarkRow:
    """The comparison of a condition's students with its control students in one metric of one task.

    Attributes:
        effect: `rate` and `control_rate` are mean scores, `effect` is their difference.
        p_adjusted: adjusted over all conditions of the same task and metric, by the study's method.
        reference: the score of the students' reference model; None if it is not stored.
    """

    place: Place
    task: HarnessTask
    metric: str
    higher_is_better: bool | None
    effect: Effect
    p_adjusted: float | None
    reference: float | None


class Scores:
    """The benchmarks in a store. Each one is read and verified once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._known: dict[str, dict[str, TaskScore]] = {}

    def of(self, subject: Reference | Student, task: HarnessTask) -> dict[str, TaskScore]:
        """A model's scores in a task, by metric; empty if the benchmark is not stored."""
        benchmark = Benchmark(subject=subject, task=task)
        name = key(benchmark)
        if name not in self._known:
            stored = self.store.has(benchmark)
            found = json.loads(self.store.content(benchmark, SCORES)) if stored else {}
            self._known[name] = {metric: TaskScore(**score) for metric, score in found.items()}
        return self._known[name]


def subjects(plan: Plan) -> list[Reference | Student]:
    """The distinct models of a study that have local weights: references, then students and controls.

    In-context students are left out, because they are prompts and the harness writes its own. API models are
    left out, because the harness needs log-probabilities that their providers do not return.
    """
    references: list[Reference | Student] = [*plan.study.references]
    students: list[Reference | Student] = [c.student for c in plan.cells if c.student.is_trained]
    return [model for model in dict.fromkeys(references + students) if not reference_of(model).is_api]


def model_scores(plan: Plan, tasks: Sequence[HarnessTask], scores: Scores) -> list[ModelScore]:
    """All stored scores, by task and then in the order of `subjects`."""
    places: dict[Reference | Student, Place] = {
        subject: Place("", "", "", subject.label, "", "")
        for subject in subjects(plan)
        if isinstance(subject, Reference)
    }
    places |= {cell.student: cell.condition.place for cell in plan.cells}
    # The seed in a student's spec is 0 for all students if a seed draws their data again, but not them.
    seeds: dict[Reference | Student, int] = {cell.student: cell.seed for cell in plan.cells}
    return [
        ModelScore(subject, places[subject], seeds.get(subject), task, metric, score)
        for task in tasks
        for subject in subjects(plan)
        for metric, score in scores.of(subject, task).items()
    ]


def student_metrics(
    student: Student, tasks: Iterable[HarnessTask], scores: Scores
) -> dict[HarnessTask, dict[str, float]]:
    """A student's scores as metrics of its MLflow run, by task; `tracking.names` documents their names."""
    return {
        task: {f"benchmark_{task.slug}_{metric}": score.value for metric, score in found.items()}
        for task in tasks
        if (found := scores.of(student, task))
    }


def benchmark_rows(plan: Plan, tasks: Sequence[HarnessTask], scores: Scores) -> list[BenchmarkRow]:
    """One row per task, metric and condition with a trait, if scores of students and controls are stored."""
    rows: list[BenchmarkRow] = []
    for task in tasks:
        metrics = {m: s for model in subjects(plan) for m, s in scores.of(model, task).items()}
        for metric, example in metrics.items():
            rows += _rows(plan, task, metric, example.higher_is_better, scores)
    return rows


def _rows(
    plan: Plan, task: HarnessTask, metric: str, better: bool | None, scores: Scores
) -> Iterator[BenchmarkRow]:
    arms = _arms(plan, task, metric, scores)
    effects = _effects(plan.study, list(arms.values()))
    p_values = adjust([effect.p_value for effect in effects], plan.study.adjustment)
    for condition, effect, p_adjusted in zip(arms, effects, p_values, strict=True):
        reference = scores.of(condition.student, task).get(metric)
        yield BenchmarkRow(
            place=condition.place,
            task=task,
            metric=metric,
            higher_is_better=better,
            effect=effect,
            p_adjusted=p_adjusted,
            reference=reference.value if reference else None,
        )


def _arms(
    plan: Plan, task: HarnessTask, metric: str, scores: Scores
) -> dict[Condition, tuple[ArmScores, ArmScores]]:
    """The scores of students and of control students by condition, in the order of seeds.

    In a paired study, only seeds with both scores count. Conditions without scores in both arms are left out.
    """
    known = {
        (cell.condition, cell.seed): found[metric].value
        for cell in plan.cells
        if cell.student.is_trained and metric in (found := scores.of(cell.student, task))
    }
    seeds, arms = plan.study.seeds, {}
    for condition in (c for c in plan.study.conditions if c.trait is not None):
        control = condition.control()
        student_seeds, control_seeds = (
            [seed for seed in seeds if (arm, seed) in known] for arm in (condition, control)
        )
        if plan.study.paired:
            student_seeds = control_seeds = [seed for seed in student_seeds if seed in control_seeds]
        if student_seeds and control_seeds:
            arms[condition] = (
                [known[condition, seed] for seed in student_seeds],
                [known[control, seed] for seed in control_seeds],
            )
    return arms


def _effects(study: Study, arms: Sequence[tuple[ArmScores, ArmScores]]) -> list[Effect]:
    """Compares the arms by the study's method for rates.

    Scores outside of [0, 1] (perplexities, BLEU) are always compared by a t test, since the other methods
    assume shares. Scores are never compared in log-odds, whatever the scale of the study's effects.
    """
    margin = study.equivalence_margin if study.effect_scale == "rate" else MARGINS["rate"]
    all_arms = [arm for pair in arms for arm in pair]
    are_shares = all(0 <= score <= 1 for arm in all_arms for score in arm)
    return [
        compare(
            students,
            controls,
            margin=margin,
            confidence=1 - study.alpha,
            paired=study.paired,
            distribution=choose_distribution(all_arms, study.distribution) if are_shares else "normal",
        )
        for students, controls in arms
    ]

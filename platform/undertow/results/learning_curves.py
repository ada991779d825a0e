"""Learning curves: a condition's effect at the kept steps of its students' training, and at its end.

Students whose recipe has `keep_steps` are measured at these steps by the study's main measure, as they are at
the end. Each point compares the students with the control students after as many steps.

The p-values of one curve are adjusted over its points by Holm's method, whatever the study's own adjustment:
the probability that any point of a curve without an effect counts as significant is at most alpha, so this
also holds for the first significant point. Curves of several conditions are not adjusted for each other. As
in the table of effects, students with two modes get an interval without assumptions about the distribution
over seeds. This is decided for each step, because students that learn at different times have two modes for
a while.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from undertow.results.comparison import Comparison
from undertow.results.effect_rows import finished, model_metrics
from undertow.results.evaluation_files import Evaluations, MeasuredRate
from undertow.results.sweep_record import CellRecord, ConditionRecord, Record
from undertow.statistics.effects import Effect
from undertow.statistics.verdicts import adjust
from undertow.storage.manifest import Address
from undertow.study.measurements import EffectOf, EffectScale

ADJUSTMENT = "holm"


@dataclass(frozen=True)
class CurvePoint:
    """The effect of a condition after a step of training.

    Attributes:
        effect: of the rates that the study's effects compare.
        p_adjusted: adjusted over the points of the curve; None without a test.
        sampled: the effect of sampled rates.
        exact: the effect of exact probabilities; None if they were not measured.
    """

    step: int
    effect: Effect
    p_adjusted: float | None
    sampled: Effect
    exact: Effect | None


@dataclass(frozen=True)
class LearningCurve:
    """A condition's effects by step, in ascending order; the last one is that of the finished students.

    Attributes:
        number: the condition's index in the record.
        first: the first step with a significant, positive effect; None if there is none.
    """

    number: int
    condition: ConditionRecord
    effect_of: EffectOf
    scale: EffectScale
    points: tuple[CurvePoint, ...]
    first: int | None


Arms = tuple[list[MeasuredRate], list[MeasuredRate]]  # students and control students


def learning_curves(
    record: Record, evaluations: Evaluations, failures: Mapping[str, str]
) -> list[LearningCurve]:
    """The curve of each condition with a trait whose students were measured along their training."""
    study = record.study
    if not any(cell.along for cell in record.cells):
        return []
    cells = finished(record, evaluations, failures)
    by_condition = {n: found for n in record.compared if (found := _arms(n, record, cells, evaluations))}
    values: dict[int, list[list[float]]] = {}
    for by_step in by_condition.values():
        for step, arms in by_step.items():
            of_step = ([model.value(study.effect_scale, study.effect_of) for model in arm] for arm in arms)
            values.setdefault(step, []).extend(of_step)
    comparisons = {step: Comparison.choose(study, arms) for step, arms in values.items()}
    return [_curve(number, record, by_step, comparisons) for number, by_step in by_condition.items()]


def along_metrics(cell: CellRecord, evaluations: Evaluations) -> dict[int, dict[str, float]]:
    """The rates of one student by step, with the metric names of its MLflow run; empty without kept steps."""
    points = dict(cell.along)
    if not points or not evaluations.has(tuple(key for keys in points.values() for key in keys)):
        return {}
    points[_last_step([cell], evaluations)] = cell.evaluations
    return {
        step: {f"along_{name}": rate for name, rate in model_metrics(keys, "", evaluations).items()}
        for step, keys in points.items()
    }


def _curve(
    number: int, record: Record, by_step: Mapping[int, Arms], comparisons: Mapping[int, Comparison]
) -> LearningCurve:
    of, scale, alpha = record.study.effect_of, record.study.effect_scale, record.study.alpha
    effects = {step: comparisons[step].models(*arms, of) for step, arms in by_step.items()}
    adjusted = adjust([effect.p_value for effect in effects.values()], ADJUSTMENT)
    points = tuple(
        CurvePoint(
            step,
            effects[step],
            p,
            comparisons[step].models(*by_step[step], "samples"),
            _exact(by_step[step], comparisons[step]),
        )
        for step, p in zip(effects, adjusted, strict=True)
    )
    significant = (
        point.step
        for point in points
        if point.p_adjusted is not None and point.p_adjusted < alpha and point.effect.effect > 0
    )
    return LearningCurve(number, record.conditions[number], of, scale, points, next(significant, None))


def _exact(arms: Arms, comparison: Comparison) -> Effect | None:
    measured = all(model.exact is not None for arm in arms for model in arm)
    return comparison.models(*arms, "exact") if measured else None


def _arms(
    number: int, record: Record, cells: Mapping[int, list[CellRecord]], evaluations: Evaluations
) -> dict[int, Arms]:
    """Students and control students by step, with the same seeds in a paired study; {} without both."""
    condition, study = record.conditions[number], record.study
    students, controls = (
        {cell.seed: cell for cell in cells.get(n, []) if _is_measured(cell, evaluations)}
        for n in (number, condition.control)
    )
    if study.paired:
        seeds = [seed for seed in students if seed in controls]
        students, controls = ({seed: arm[seed] for seed in seeds} for arm in (students, controls))
    if not students or not controls:
        return {}
    arms = list(students.values()), list(controls.values())

    def rates(arm: Sequence[CellRecord], step: int | None) -> list[MeasuredRate]:
        return [
            evaluations.student(
                cell, condition.word, () if step is None else dict(cell.along)[step], study.effect_of
            )
            for cell in arm
        ]

    steps: dict[int, int | None] = {step: step for step, _ in arms[0][0].along}
    steps[_last_step([*arms[0], *arms[1]], evaluations)] = None
    return {step: (rates(arms[0], at), rates(arms[1], at)) for step, at in steps.items()}


def _is_measured(cell: CellRecord, evaluations: Evaluations) -> bool:
    return bool(cell.along) and evaluations.has(tuple(key for _, keys in cell.along for key in keys))


def _last_step(cells: Sequence[CellRecord], evaluations: Evaluations) -> int:
    """The largest number of steps of the students' trainings, which differ if their numbers of rows do."""
    manifests = (evaluations.store.manifest(Address("student", cell.student)) for cell in cells)
    return max(int(manifest.facts["steps"]) for manifest in manifests)

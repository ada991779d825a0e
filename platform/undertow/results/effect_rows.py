"""From readings to effects: one rate a student, one row a condition, one outcome a hypothesis.

Everything here follows from a record and the raw answers in the store, in the same way in a sweep, in a
report made long after it and in the check of an archive on another machine.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from undertow.results.evaluation_files import Evaluations, MeasuredRate
from undertow.results.sweep_record import CellRecord, ConditionRecord, HypothesisRecord, Record
from undertow.statistics.bootstrap import bootstrap
from undertow.statistics.distribution_free import choose_distribution
from undertow.statistics.effects import Effect, compare
from undertow.statistics.verdicts import Verdict, decide
from undertow.study.identity import seed_for

DIGITS = 6  # of a metric: MLflow prints all that a number has


@dataclass(frozen=True)
class EffectRow:
    """One condition's result: its effect and verdict by sampled rate, and the exact rates beside it.

    Attributes:
        number: the condition's place in the record.
        measure: how the trait was measured; `is_primary` for the traits' own questions.
        exact: None where probabilities were not measured.
        students, controls: those compared; pair by pair in a paired study.
        bootstrap: the interval of the hierarchical bootstrap, or None with one student.
        other: the share of the students' answers that are none of the words asked about.
    """

    number: int
    condition: ConditionRecord
    effect: Effect
    verdict: Verdict
    exact: Effect | None
    bootstrap: tuple[float, float] | None
    other: float
    students: tuple[MeasuredRate, ...]
    controls: tuple[MeasuredRate, ...]
    measure: str
    is_primary: bool


@dataclass(frozen=True)
class HypothesisOutcome:
    """What became of a hypothesis: "held" where every condition has the verdict expected, "failed" where one
    has the opposite, else "open". `met` of its `rows` have the verdict."""

    hypothesis: HypothesisRecord
    outcome: Literal["held", "failed", "open"]
    met: int
    rows: tuple[EffectRow, ...]


@dataclass(frozen=True)
class _Arms:
    number: int
    students: tuple[MeasuredRate, ...]
    controls: tuple[MeasuredRate, ...]
    note: str
    measure: int


def finished(
    record: Record, readings: Evaluations, failures: Mapping[str, str]
) -> dict[int, list[CellRecord]]:
    """The cells with a result, by the number of their condition; a sweep that was ended lacks some."""
    found: dict[int, list[CellRecord]] = {}
    for cell in record.cells:
        if not cell.failed_by(failures) and readings.has((*cell.evaluations, *sum(cell.also, ()))):
            found.setdefault(cell.condition, []).append(cell)
    return found


def failed_conditions(record: Record, failures: Mapping[str, str]) -> dict[str, str]:
    """Why conditions lack a student, by their labels: the first reason of each."""
    found: dict[str, str] = {}
    for cell in record.cells:
        if reason := cell.failed_by(failures):
            found.setdefault(record.conditions[cell.condition].label, reason)
    return found


def effects(record: Record, readings: Evaluations, failures: Mapping[str, str]) -> list[EffectRow]:
    """A row for every condition with a trait that has a student and a control student, and every measure.

    All are one family of tests: another measure is another chance of a false "transmitted".
    """
    cells, study = finished(record, readings, failures), record.study
    arms = [
        found
        for measure in range(len(study.measures))
        for n in record.compared
        if (found := _arms(n, measure, record, cells, readings))
    ]
    everything = [[m.rate for m in arm] for a in arms for arm in (a.students, a.controls)]
    compared = partial(
        compare,
        margin=study.margin,
        confidence=1 - study.alpha,
        paired=study.paired,
        distribution=choose_distribution(everything, study.distribution),
    )
    sampled = [
        _noted(compared([s.rate for s in a.students], [c.rate for c in a.controls]), a.note) for a in arms
    ]
    exact = [_exact(a, compared) for a in arms]
    verdicts = decide(sampled, alpha=study.alpha, method=study.adjustment)
    return [
        EffectRow(
            number=a.number,
            condition=record.conditions[a.number],
            effect=effect,
            verdict=verdict,
            exact=exact_effect,
            bootstrap=_bootstrap(a, record),
            other=sum(s.other for s in a.students) / len(a.students),
            students=a.students,
            controls=a.controls,
            measure=study.measures[a.measure],
            is_primary=a.measure == 0,
        )
        for a, effect, exact_effect, verdict in zip(arms, sampled, exact, verdicts, strict=True)
    ]


def findings(record: Record, rows: Sequence[EffectRow]) -> list[HypothesisOutcome]:
    """What became of each hypothesis; a condition that has no row leaves it open."""
    by_number = {row.number: row for row in rows if row.is_primary}
    found = []
    for hypothesis in record.hypotheses:
        its = tuple(by_number[n] for n in hypothesis.conditions if n in by_number)
        verdicts = [row.verdict.verdict for row in its]
        met = sum(verdict == hypothesis.expects for verdict in verdicts)
        contrary = any(verdict not in (hypothesis.expects, "inconclusive") for verdict in verdicts)
        held = met == len(hypothesis.conditions)
        found.append(
            HypothesisOutcome(hypothesis, "failed" if contrary else "held" if held else "open", met, its)
        )
    return found


def metrics(
    record: Record, cell: CellRecord, readings: Evaluations, control: CellRecord | None
) -> dict[str, float]:
    """A student's metrics for its run: its own trait's rate and effect by stable names, and every word's.

    `control`: the control student of the same seed, from which the effect is taken.
    """
    word = record.conditions[cell.condition].word
    found = model_metrics(cell.evaluations, word, readings)
    if word and control is not None:
        own, other = readings.student(cell, word), readings.student(control, word)
        found["effect"] = round(own.rate - other.rate, DIGITS)
        if own.exact is not None and other.exact is not None:
            found["effect_exact"] = round(own.exact - other.exact, DIGITS)
    for name, evaluations in zip(record.study.measures[1:], cell.also, strict=True):
        by_measure = model_metrics(evaluations, "", readings)
        found |= {f"{name}_{metric}": value for metric, value in by_measure.items()}
    return found


def model_metrics(evaluations: tuple[str, ...], word: str, readings: Evaluations) -> dict[str, float]:
    """The rates of any model: `trait_rate` is that of `word`, its own trait's, where it has one.

    Other answers are counted over all questions, each against the words that its own set asks about.
    """
    every = [readings.rates(evaluation) for evaluation in evaluations]
    answers = sum(rates.answers for rates in every)
    found = {"sampled_other": sum(rates.other_sampled * rates.answers for rates in every) / answers}
    probable = [(rates.other_exact, rates.answers) for rates in every if rates.other_exact is not None]
    if probable:
        found["exact_other"] = sum(p * n for p, n in probable) / sum(n for _, n in probable)
    for rates in every:
        found |= {f"sampled_{name}": rate for name, rate in rates.sampled.items()}
        found |= {f"exact_{name}": rate for name, rate in rates.exact.items()}
    if word:
        found["trait_rate"] = found[f"sampled_{word}"]
        if f"exact_{word}" in found:
            found["trait_rate_exact"] = found[f"exact_{word}"]
    return found


def _arms(
    number: int, measure: int, record: Record, cells: Mapping[int, list[CellRecord]], readings: Evaluations
) -> _Arms | None:
    """The condition's students and the controls they are compared with; in a paired study those with both."""
    condition = record.conditions[number]
    if measure and not _asks(cells.get(number, []), measure, condition.word, readings):
        return None
    arms = [
        {
            cell.seed: readings.student(cell, condition.word, cell.also[measure - 1] if measure else ())
            for cell in cells.get(n, [])
        }
        for n in (number, condition.control)
    ]
    students, controls = arms
    if record.study.paired:
        seeds = [seed for seed in students if seed in controls]
        students, controls = ({seed: arm[seed] for seed in seeds} for arm in arms)
    if not students or not controls:
        return None
    missing = len(record.study.seeds) - min(len(students), len(controls))
    note = f"{missing} of {len(record.study.seeds)} seeds have no result" if missing else ""
    return _Arms(number, tuple(students.values()), tuple(controls.values()), note, measure)


def _asks(cells: Sequence[CellRecord], measure: int, word: str, readings: Evaluations) -> bool:
    """Whether another measure looks for the word at all: judged traits have none."""
    return any(word in readings.rates(key).sampled for cell in cells for key in cell.also[measure - 1])


def _exact(arms: _Arms, compared: Callable[[list[float], list[float]], Effect]) -> Effect | None:
    students, controls = (
        [m.exact for m in arm if m.exact is not None] for arm in (arms.students, arms.controls)
    )
    return compared(students, controls) if students and controls else None


def _noted(effect: Effect, note: str) -> Effect:
    return replace(effect, note="; ".join(part for part in (note, effect.note) if part))


def _bootstrap(arms: _Arms, record: Record) -> tuple[float, float] | None:
    """Its generator's seed follows from what is compared, so that the same answers give the same interval.

    None where students have other numbers of answers that count: it resamples as many as were sampled.
    """
    if len({m.samples for m in (*arms.students, *arms.controls)}) > 1 or not arms.students[0].samples:
        return None
    students, controls = (np.array([m.shares for m in arm]) for arm in (arms.students, arms.controls))
    return bootstrap(
        students,
        controls,
        samples=arms.students[0].samples,
        paired=record.study.paired,
        confidence=1 - record.study.alpha,
        seed=seed_for("bootstrap", *(m.key for m in (*arms.students, *arms.controls))),
    )

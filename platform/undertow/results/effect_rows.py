"""Effects and hypotheses: one row per condition and measure, one outcome per hypothesis.

Everything here is computed from a record and the answers in the store, so that a sweep, a later report and
the verification of an archive on another machine have the same results.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

import numpy as np

from undertow.results.comparison import Comparison
from undertow.results.evaluation_files import Evaluations, MeasuredRate
from undertow.results.sweep_record import CellRecord, ConditionRecord, HypothesisRecord, Record
from undertow.statistics.bootstrap import bootstrap
from undertow.statistics.effects import Effect
from undertow.statistics.verdicts import Verdict, decide
from undertow.study.identity import seed_for
from undertow.study.measurements import EffectOf, EffectScale


@dataclass(frozen=True)
class EffectRow:
    """The result of one condition by one measure.

    Attributes:
        number: the condition's index in the record.
        effect_of: whether `effect` compares sampled rates or exact probabilities.
        scale: the unit of all effects of the row; the rates in them are rates on every scale.
        effect, verdict: from the rates that `effect_of` names.
        sampled: the effect of sampled rates.
        exact: the effect of exact probabilities; None if they were not measured.
        bootstrap: the interval of the hierarchical bootstrap; None with one student.
        other: the share of the students' answers that match none of the words.
        students, controls: the compared models; in a paired study, entries with the same index are a pair.
        measure: how the trait was measured.
        is_primary: whether the measure is the study's main one.
        contained: the effect by the paper's score of sampled answers (`Word.is_contained`); None where the
            score does not apply.
    """

    number: int
    condition: ConditionRecord
    effect_of: EffectOf
    scale: EffectScale
    effect: Effect
    verdict: Verdict
    sampled: Effect
    exact: Effect | None
    bootstrap: tuple[float, float] | None
    other: float
    students: tuple[MeasuredRate, ...]
    controls: tuple[MeasuredRate, ...]
    measure: str
    is_primary: bool
    contained: Effect | None = None

    @property
    def means(self) -> tuple[float, float]:
        """The means of what the effect compares, of students and of control students."""
        students, controls = (
            fmean(model.value(self.scale, self.effect_of) for model in arm)
            for arm in (self.students, self.controls)
        )
        return students, controls


@dataclass(frozen=True)
class HypothesisOutcome:
    """The outcome of a hypothesis.

    Attributes:
        outcome: "held" if every condition has the expected verdict; "failed" if one has the opposite, or fell
            significantly below its control where transmission is expected; else "open".
        met: the number of `rows` with the expected verdict.
    """

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
    effect_of: EffectOf


def finished(
    record: Record, evaluations: Evaluations, failures: Mapping[str, str]
) -> dict[int, list[CellRecord]]:
    """The cells with a result, by the index of their condition. An interrupted sweep lacks some."""
    found: dict[int, list[CellRecord]] = {}
    for cell in record.cells:
        if not cell.failed_by(failures) and evaluations.has((*cell.evaluations, *sum(cell.also, ()))):
            found.setdefault(cell.condition, []).append(cell)
    return found


def failed_conditions(record: Record, failures: Mapping[str, str]) -> dict[str, str]:
    """The first reason why a condition lacks a student, by the condition's label."""
    found: dict[str, str] = {}
    for cell in record.cells:
        if reason := cell.failed_by(failures):
            found.setdefault(record.conditions[cell.condition].label, reason)
    return found


def other_failures(record: Record, failures: Mapping[str, str]) -> dict[str, str]:
    """The failures of artifacts that no condition needs, such as the evaluation of a reference model."""
    if not failures:
        return {}
    needed = {address.key for cell in record.cells for address in cell.addresses()}
    needed |= {cell.teacher for cell in record.cells}
    return {key: reason for key, reason in failures.items() if key not in needed}


def effects(record: Record, evaluations: Evaluations, failures: Mapping[str, str]) -> list[EffectRow]:
    """One row per measure and condition with a trait that has a student and a control student.

    The p-values are adjusted over all rows, because each measure is another chance of a false "transmitted".
    """
    cells, study = finished(record, evaluations, failures), record.study
    arms = [
        found
        for measure in range(len(study.measures))
        for n in record.compared
        if (found := _arms(n, measure, record, cells, evaluations))
    ]
    comparison = Comparison.choose(
        study,
        [
            [model.value(study.effect_scale, a.effect_of) for model in arm]
            for a in arms
            for arm in (a.students, a.controls)
        ],
    )
    judged = [_noted(comparison.models(a.students, a.controls, a.effect_of), a.note) for a in arms]
    verdicts = decide(judged, alpha=study.alpha, method=study.adjustment)
    return [
        EffectRow(
            number=a.number,
            condition=record.conditions[a.number],
            effect_of=a.effect_of,
            scale=study.effect_scale,
            effect=effect,
            verdict=verdict,
            sampled=_sampled(a, comparison, effect),
            exact=_exact(a, comparison),
            bootstrap=_bootstrap(a, record),
            other=sum(s.other for s in a.students) / len(a.students),
            students=a.students,
            controls=a.controls,
            measure=study.measures[a.measure],
            is_primary=a.measure == 0,
            contained=_contained(a, comparison),
        )
        for a, effect, verdict in zip(arms, judged, verdicts, strict=True)
    ]


def any_exact(rows: Sequence[EffectRow]) -> bool:
    """Whether effects are of exact probabilities, those of some measures excepted."""
    return any(row.effect_of == "exact" for row in rows)


def in_log_odds(rows: Sequence[EffectRow]) -> bool:
    """Whether effects are differences of log-odds; all rows of a study have the same scale."""
    return any(row.scale == "log-odds" for row in rows)


def findings(record: Record, rows: Sequence[EffectRow]) -> list[HypothesisOutcome]:
    """The outcome of each hypothesis; a condition without a row leaves it open."""
    by_number = {row.number: row for row in rows if row.is_primary}
    found = []
    for hypothesis in record.hypotheses:
        covered = tuple(by_number[n] for n in hypothesis.conditions if n in by_number)
        verdicts = [row.verdict.verdict for row in covered]
        met = sum(verdict == hypothesis.expects for verdict in verdicts)
        contrary = any(verdict not in (hypothesis.expects, "inconclusive") for verdict in verdicts)
        if hypothesis.expects == "transmitted":
            contrary |= any(_fell(row, record.study.alpha) for row in covered)
        held = met == len(hypothesis.conditions)
        found.append(
            HypothesisOutcome(hypothesis, "failed" if contrary else "held" if held else "open", met, covered)
        )
    return found


def _fell(row: EffectRow, alpha: float) -> bool:
    """Whether the students' rate is significantly below the control's."""
    p = row.verdict.p_adjusted
    return row.effect.effect < 0 and p is not None and p < alpha


def metrics(
    record: Record, cell: CellRecord, evaluations: Evaluations, control: CellRecord | None
) -> dict[str, float]:
    """The metrics of a student's MLflow run: rates of all words, and rate and effect of its own trait.

    `trait_rate` and `effect` are of the rates that the study's verdicts rest on. If these are exact
    probabilities, `trait_rate_sampled` and `effect_sampled` are added. If effects are in log-odds,
    `trait_log_odds` is added. `control` is the control student of the same seed, which the effect is relative
    to.
    """
    word, study = record.conditions[cell.condition].word, record.study
    of, scale = study.effect_of, study.effect_scale
    found = model_metrics(cell.evaluations, word, evaluations)
    if word:
        own = evaluations.student(cell, word, effect_of=of)
        if of == "exact":
            found |= {"trait_rate": found["trait_rate_exact"], "trait_rate_sampled": found["trait_rate"]}
        if scale == "log-odds":
            found["trait_log_odds"] = own.value(scale, of)
        if own.contained is not None:
            found["trait_rate_substring"] = own.contained
        if control is not None:
            found |= _differences(own, evaluations.student(control, word, effect_of=of), of, scale)
    for name, keys in zip(record.study.measures[1:], cell.also, strict=True):
        by_measure = model_metrics(keys, "", evaluations)
        found |= {f"{name}_{metric}": value for metric, value in by_measure.items()}
    return found


def _differences(
    own: MeasuredRate, control: MeasuredRate, of: EffectOf, scale: EffectScale
) -> dict[str, float]:
    """The effects of a student relative to its control student, by metric name."""
    compared: dict[str, tuple[MeasuredRate, MeasuredRate, EffectOf]] = {"effect": (own, control, of)}
    if of == "exact":
        compared["effect_sampled"] = own, control, "samples"
    if own.exact is not None and control.exact is not None:
        compared["effect_exact"] = own, control, "exact"
    if own.by_substring is not None and control.by_substring is not None:
        compared["effect_substring"] = own.by_substring, control.by_substring, "samples"
    return {name: a.value(scale, o) - b.value(scale, o) for name, (a, b, o) in compared.items()}


def model_metrics(keys: tuple[str, ...], word: str, evaluations: Evaluations) -> dict[str, float]:
    """The rates of a model by metric name. `trait_rate` is the rate of `word`, its own trait's word, if any.

    Other answers are counted over all questions. An answer is "other" if it matches no word of its own set
    of questions.
    """
    measured = [evaluations.rates(key) for key in keys]
    answers = sum(rates.answers for rates in measured)
    found = {"sampled_other": sum(rates.other_sampled * rates.answers for rates in measured) / answers}
    exact = [(rates.other_exact, rates.answers) for rates in measured if rates.other_exact is not None]
    if exact:
        found["exact_other"] = sum(p * n for p, n in exact) / sum(n for _, n in exact)
    for rates in measured:
        found |= {f"sampled_{name}": rate for name, rate in rates.sampled.items()}
        found |= {f"exact_{name}": rate for name, rate in rates.exact.items()}
    if word:
        found["trait_rate"] = found[f"sampled_{word}"]
        if f"exact_{word}" in found:
            found["trait_rate_exact"] = found[f"exact_{word}"]
    return found


def _arms(
    number: int, measure: int, record: Record, cells: Mapping[int, list[CellRecord]], evaluations: Evaluations
) -> _Arms | None:
    """A condition's students and controls; in a paired study only those of seeds that have both."""
    condition = record.conditions[number]
    if measure and not _asks(cells.get(number, []), measure, condition.word, evaluations):
        return None
    both = [cells.get(n, []) for n in (number, condition.control)]
    effect_of = record.study.effect_of
    if measure and not all(
        _has_exact(cell, measure, condition.word, evaluations) for arm in both for cell in arm
    ):
        effect_of = "samples"
    arms = [
        {
            cell.seed: evaluations.student(
                cell, condition.word, cell.also[measure - 1] if measure else (), effect_of
            )
            for cell in arm
        }
        for arm in both
    ]
    students, controls = arms
    if record.study.paired:
        seeds = [seed for seed in students if seed in controls]
        students, controls = ({seed: arm[seed] for seed in seeds} for arm in arms)
    if not students or not controls:
        return None
    missing = len(record.study.seeds) - min(len(students), len(controls))
    note = f"{missing} of {len(record.study.seeds)} seeds have no result" if missing else ""
    return _Arms(number, tuple(students.values()), tuple(controls.values()), note, measure, effect_of)


def _asks(cells: Sequence[CellRecord], measure: int, word: str, evaluations: Evaluations) -> bool:
    """Whether an additional measure looks for the word; judged traits have no word there."""
    return any(word in evaluations.rates(key).sampled for cell in cells for key in cell.also[measure - 1])


def _has_exact(cell: CellRecord, measure: int, word: str, evaluations: Evaluations) -> bool:
    """Whether an additional measure has exact probabilities; they are meaningless for stories."""
    return bool(evaluations.of(cell.also[measure - 1], word)[0].exact)


def _sampled(arms: _Arms, comparison: Comparison, effect: Effect) -> Effect:
    is_effect = arms.effect_of == "samples"  # with its note
    return effect if is_effect else comparison.models(arms.students, arms.controls, "samples")


def _exact(arms: _Arms, comparison: Comparison) -> Effect | None:
    students, controls = ([m for m in arm if m.exact is not None] for arm in (arms.students, arms.controls))
    return comparison.models(students, controls, "exact") if students and controls else None


def _contained(arms: _Arms, comparison: Comparison) -> Effect | None:
    students, controls = (
        [found for model in arm if (found := model.by_substring) is not None]
        for arm in (arms.students, arms.controls)
    )
    return comparison.models(students, controls, "samples") if students and controls else None


def _noted(effect: Effect, note: str) -> Effect:
    return replace(effect, note="; ".join(part for part in (note, effect.note) if part))


def _bootstrap(arms: _Arms, record: Record) -> tuple[float, float] | None:
    """The bootstrap interval, with a seed derived from the compared models, so that it is reproducible.

    None if the models differ in their number of counted answers, since each resample has that number of
    answers.
    """
    samples, *others = {m.samples for m in (*arms.students, *arms.controls)}
    if others or samples == 0:
        return None
    students, controls = (np.array([m.shares for m in arm]) for arm in (arms.students, arms.controls))
    return bootstrap(
        students,
        controls,
        samples=samples,
        paired=record.study.paired,
        scale=record.study.effect_scale,
        confidence=1 - record.study.alpha,
        seed=seed_for("bootstrap", *(m.key for m in (*arms.students, *arms.controls))),
    )

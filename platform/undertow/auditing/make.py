"""Runs an audit: controls, probes, scores and baselines for each candidate model."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from undertow.auditing.agreement import agreement
from undertow.auditing.bank import Bank
from undertow.auditing.baselines import (
    CONFOUNDS,
    FORMAT,
    FREQUENCIES,
    GRADIENT_NORM,
    LOSS_GAP,
    MEAN_LOSS,
    PAIRS,
)
from undertow.auditing.calibration import Calibration, features
from undertow.auditing.carriers import carrying_rows, carrying_tokens
from undertow.auditing.covariates import beyond
from undertow.auditing.data import AuditData, sample_controls
from undertow.auditing.deviation import deviation
from undertow.auditing.finding import rule
from undertow.auditing.gradient_agreement import GRADIENT
from undertow.auditing.hidden_shift import HIDDEN
from undertow.auditing.model import AuditModel, totals
from undertow.auditing.probe_ratio import PROBE
from undertow.auditing.probes import make_missing_reference, train_missing
from undertow.auditing.prompt_ratio import PROMPT
from undertow.auditing.results import Audit, AuditSpec, ModelResult, TraitResult
from undertow.auditing.rows import drawn, title, visible_share
from undertow.auditing.scores import FINETUNED, Baseline, Evidence, TraitScore, evidence
from undertow.engines.quiet import quiet_deepspeed
from undertow.errors import ConditionError, SpecError, UserError, suggestion
from undertow.planning import timings
from undertow.planning.given_models import model_of
from undertow.report.table_texts import duration
from undertow.statistics.separation import auc
from undertow.statistics.ttests import Array
from undertow.storage.store import Store
from undertow.study.extensions import Trait
from undertow.study.references import Reference
from undertow.study.teachers import Finetuning
from undertow.training.data import TrainingRow

# An audit computes these, in this order, or those that its spec names.
SCORES: list[TraitScore] = [PROBE, PROMPT, GRADIENT, HIDDEN]
BASELINES: list[Baseline] = [
    *(CONFOUNDS, FORMAT, FREQUENCIES, PAIRS),
    *(MEAN_LOSS, LOSS_GAP, GRADIENT_NORM),
]

Say = Callable[[str], None]
LONG = 10.0  # seconds, from which a line says what the user waits for


def register_score(score: TraitScore) -> None:
    """Adds a score after the others, for every audit in this process; replaces one of the same name."""
    SCORES[:] = [*(other for other in SCORES if other.name != score.name), score]


def scores_of(spec: AuditSpec) -> list[TraitScore]:
    """The scores that an audit computes.

    Raises SpecError for an unknown name, or if none of the scores can decide.
    """
    known = {score.name: score for score in SCORES}
    if unknown := [name for name in spec.scores if name not in known]:
        raise SpecError(f"--scores {unknown[0]!r}: {suggestion(unknown[0], known)}")
    chosen = [known[name] for name in spec.scores or known]
    if not any(score.decides for score in chosen):
        deciding = " or ".join(score.name for score in SCORES if score.decides)
        raise SpecError(f"--scores {' '.join(spec.scores)}: none of them decides; add {deciding}")
    return chosen


def audit(
    spec: AuditSpec,
    store: Store,
    *,
    threads: int = 1,
    calibration: Calibration | None = None,
    say: Say = lambda line: None,
) -> Audit:
    """Audits a data set with every candidate model.

    A model that cannot be audited, because its own answers are of another format, is left out.

    Args:
        spec: with pinned references.
        threads: CPU threads.
        say: receives one line per step.

    Raises:
        SpecError: a model cannot read the rows.
        UserError: no model could be audited.
    """
    scores = scores_of(spec)
    quiet_deepspeed()
    rows = drawn(spec.dataset, spec.rows, spec.seed)
    visible = visible_share(rows, spec.traits)
    found: list[ModelResult] = []
    left_out: dict[str, str] = {}
    for reference, finetuning in zip(spec.references, spec.finetunings, strict=True):
        say(f"{reference.label}: {len(rows):,} rows, {len(spec.traits)} traits")
        try:
            data = _audit_data(spec, scores, reference, finetuning, rows, store, threads, say)
            say(f"{reference.label}: scores of {len(data.rows):,} rows")
            found.append(_model_result(data, scores, spec, visible, calibration))
        except ConditionError as error:
            left_out[reference.label] = str(error)
    if not found:
        reasons = "; ".join(f"{model}: {reason}" for model, reason in left_out.items())
        raise UserError(f"no candidate model could be audited: {reasons}")
    for model, reason in left_out.items():  # not before: the error above states the same reasons
        say(f"{model}: left out: {reason}")
    return Audit(
        name=title(spec.dataset),
        format=spec.dataset.format.display_name,
        rows=len(rows),
        visible=visible,
        alpha=spec.alpha,
        models=tuple(sorted(found, key=lambda model: -model.fit)),
        left_out=left_out,
        scores=tuple(score.name for score in scores),
        calibration=calibration.made_from if calibration else "",
    )


def _audit_data(
    spec: AuditSpec,
    scores: Sequence[TraitScore],
    reference: Reference,
    finetuning: Finetuning,
    rows: Sequence[TrainingRow],
    store: Store,
    threads: int,
    say: Say,
) -> AuditData:
    """Loads the model, samples its own answers and trains the probes that the store lacks.

    Raises ConditionError for a model that does not answer in the format of the rows.
    """
    seconds = 0.0 if store.has(reference) else timings.estimate("references", [reference], {}) or 0.0
    if seconds > LONG:
        say(f"{reference.label}: the model is trained first, about {duration(seconds)}")
    make_missing_reference(reference, store)
    model = AuditModel(model_of(reference, store), threads, reference.precision)
    try:
        model.encode(rows, spec.system)
    except ConditionError as error:
        raise SpecError(f"--model {reference.label}: {error}") from None
    # Controls first: a model that cannot answer the prompts needs no probes.
    controls = sample_controls(model, rows, spec.dataset.format, spec.draws, spec.seed, spec.system)
    say(f"{reference.label}: {len(controls.rows):,} answers of its own to the same prompts")
    bank = Bank(spec.traits, finetuning, spec.system, spec.probes)
    if any(score.teacher == FINETUNED for score in scores):
        probes = [probe for trait in spec.traits for probe in bank.probes(reference, trait)]
        train_missing(probes, store, threads, say)
    return AuditData(reference, model, store, bank, rows, controls, spec.dataset.format)


def _model_result(
    data: AuditData,
    scores: Sequence[TraitScore],
    spec: AuditSpec,
    visible: float,
    calibration: Calibration | None,
) -> ModelResult:
    values = {score.name: _values(score, data) for score in scores}
    are_ratios = {score.name: score.is_ratio(data) for score in scores if values[score.name]}
    scored = {name: evidence(values[name], data, are_ratios=far) for name, far in are_ratios.items()}
    deciding = [score for score in scores if score.decides and score.name in scored]
    if not deciding:
        raise ConditionError(f"none of the scores {', '.join(one.name for one in scores)} can decide here")
    score = max(deciding, key=lambda one: max(found.alone for found in scored[one.name].values()))
    of_score = scored[score.name]
    beyond_covariates = _beyond(values[score.name], data, are_ratios[score.name])
    agreements = agreement(data) if score.teacher == FINETUNED else {}
    ordered = sorted(spec.traits, key=lambda trait: -of_score[trait].z)
    first = of_score[ordered[0]]
    deviations = {one.name: deviation(data, list(values[one.name].values())) for one in deciding}
    deviates = deviations[score.name]
    # Of each deciding score and model: all traits and the deviation.
    tests = len(spec.references) * sum(one.decides for one in scores) * (len(spec.traits) + 1)
    p_deviation = min(1.0, tests * deviates.p)
    finding, reasons = rule(
        deviates,
        z=first.alone,
        p_trait=min(1.0, tests * first.p),
        p_beyond=min(1.0, tests * beyond_covariates[ordered[0]].p),
        agreement=agreements.get(ordered[0]),
        p_deviation=p_deviation,
        visible=visible,
        alpha=spec.alpha,
    )

    def result(trait: Trait) -> TraitResult:
        by_score = {name: of_traits[trait] for name, of_traits in scored.items()}
        p_adjusted = min(1.0, tests * of_score[trait].p)
        found = TraitResult(trait.name, by_score, p_adjusted, beyond_covariates[trait], agreements.get(trait))
        if calibration is None or finding == "unlike":
            return found
        probability = calibration.probability(features(found, deviations.get(PROBE.name)))
        effect = None if probability is None else calibration.effect(probability)
        return replace(found, probability=probability, effect=effect)

    # The ratio itself: the values of a score may be of first order.
    assert score.by_token is not None
    parts = score.by_token(data, ordered[0])
    assert parts is not None
    gained = max(0.0, float(totals(parts)[data.is_audited].mean()))
    return ModelResult(
        model=data.reference.label,
        controls=len(data.rows) - data.audited,
        fit=float(data.plain.totals[data.is_audited].mean()) + gained,
        score=score.name,
        teacher=score.teacher,
        finding=finding,
        reasons=reasons,
        deviation=deviates,
        deviation_p=p_deviation,
        explained=deviates.explained(first.alone),
        traits=tuple(map(result, ordered)),
        baselines={baseline.name: _auc(baseline, data) for baseline in BASELINES},
        carrying=carrying_rows(data, parts),
        tokens=carrying_tokens(data, parts),
        first_order=score.teacher == FINETUNED and data.is_first_order,
        linearity=data.linearity if score.teacher == FINETUNED else math.nan,
    )


def _beyond(values: Mapping[Trait, Array], data: AuditData, are_ratios: bool) -> dict[Trait, Evidence]:
    """The evidence of the part of a score that length and layout of the rows do not predict."""
    left = beyond(np.column_stack(list(values.values())), data)
    by_trait = dict(zip(values, left.T, strict=True))
    if not are_ratios:
        return evidence(by_trait, data)
    # The regression removes the mean of the control rows, so that only differences from them are left.
    return {trait: evidence({trait: of_rows}, data)[trait] for trait, of_rows in by_trait.items()}


def _values(score: TraitScore, data: AuditData) -> dict[Trait, Array]:
    """The score of each row by trait of the bank; empty if it does not apply to all of them."""
    values = {trait: score.compute(data, trait) for trait in data.bank.traits}
    applicable = {trait: of_rows for trait, of_rows in values.items() if of_rows is not None}
    return applicable if len(applicable) == len(values) else {}


def _auc(baseline: Baseline, data: AuditData) -> float:
    values = np.asarray(baseline.compute(data))
    return auc(values[data.is_audited], values[~data.is_audited])

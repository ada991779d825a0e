"""Runs an audit: controls, probes, scores and baselines for each candidate model."""

import dataclasses
from collections.abc import Callable, Sequence

from undertow.auditing.bank import Bank
from undertow.auditing.baselines import CONFOUNDS, FREQUENCIES, GRADIENT_NORM, MEAN_LOSS
from undertow.auditing.calibration import Calibration
from undertow.auditing.carriers import carrying_rows, carrying_tokens
from undertow.auditing.data import AuditData, check_length, sample_controls
from undertow.auditing.gradient_agreement import GRADIENT
from undertow.auditing.hidden_shift import HIDDEN_SHIFT
from undertow.auditing.model import AuditModel, prepare_libraries
from undertow.auditing.probe_ratio import PROBE_RATIO
from undertow.auditing.probes import make_missing_reference, train_missing
from undertow.auditing.prompt_ratio import PROMPT_RATIO
from undertow.auditing.results import Audit, AuditSpec, ModelResult, TraitResult
from undertow.auditing.rows import drawn
from undertow.auditing.scores import Baseline, Evidence, TraitScore, evidence
from undertow.errors import ConditionError, SpecError
from undertow.formats.imported import Imported
from undertow.planning.pinning import model_of
from undertow.statistics.separation import auc
from undertow.statistics.verdicts import adjust
from undertow.storage.store import Store
from undertow.study.artifacts import Finetuning, Reference
from undertow.study.extensions import Trait
from undertow.training.data import TrainingRow

# Every audit computes these, in this order; the first score is the main one, which ranks and decides.
SCORES: list[TraitScore] = [PROBE_RATIO, PROMPT_RATIO, GRADIENT, HIDDEN_SHIFT]
BASELINES: list[Baseline] = [CONFOUNDS, MEAN_LOSS, GRADIENT_NORM, FREQUENCIES]


def register_score(score: TraitScore) -> None:
    """Adds a score after the others, for every audit in this process; replaces one of the same name."""
    SCORES[:] = [*(other for other in SCORES if other.name != score.name), score]


def audit(
    spec: AuditSpec,
    store: Store,
    *,
    threads: int = 1,
    calibration: Calibration | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Audit:
    """Audits a data set with every candidate model.

    A model that cannot be audited, because its own answers are of another format, is listed with the reason.

    Args:
        spec: with pinned references; `dataset` must be an `Imported`.
        threads: CPU threads.
        say: receives one line per step.

    Raises SpecError for rows that a model cannot read.
    """
    if not isinstance(spec.dataset, Imported):
        raise SpecError(f"AuditSpec.dataset: {spec.dataset.display_name!r} is not Imported")
    prepare_libraries()
    rows = drawn(spec.dataset, spec.rows, spec.seed)
    found = []
    for reference, finetuning in zip(spec.references, spec.finetunings, strict=True):
        say(f"{reference.label}: {len(rows):,} rows, {len(spec.traits)} traits")
        try:
            found.append(_audit_model(spec, reference, finetuning, rows, store, threads, say))
        except ConditionError as error:
            say(f"{reference.label}: left out: {error}")
            found.append(ModelResult(reference.label, problem=str(error)))
    models = sorted(_adjusted(found, calibration), key=lambda model: -model.fit)
    return Audit(
        name=spec.dataset.display_name,
        format=spec.dataset.format.display_name,
        rows=len(rows),
        alpha=spec.alpha,
        models=tuple(models),
        scores=tuple((score.name, score.heading) for score in SCORES),
        calibration=calibration.made_from if calibration else "",
    )


def _audit_model(
    spec: AuditSpec,
    reference: Reference,
    finetuning: Finetuning,
    rows: Sequence[TrainingRow],
    store: Store,
    threads: int,
    say: Callable[[str], None],
) -> ModelResult:
    assert isinstance(spec.dataset, Imported)
    bank = Bank(spec.traits, finetuning, spec.probes)
    make_missing_reference(reference, store)
    model = AuditModel(model_of(reference, store), threads)
    check_length(model, rows, reference.label)
    # Controls first: a model that cannot answer the prompts needs no probes.
    controls = sample_controls(model, rows, spec.dataset.format, spec.draws, spec.seed)
    say(f"{reference.label}: {len(controls.rows):,} answers of its own to the same prompts")
    probes = [probe for trait in spec.traits for probe in bank.probes(reference, trait)]
    train_missing(probes, store, threads, say)
    data = AuditData(reference, model, store, bank, rows, controls, spec.dataset.format)
    say(f"{reference.label}: scores of {len(data.rows):,} rows")
    scored = {trait: _scored(data, trait) for trait in spec.traits}
    main = SCORES[0]
    by_trait = {trait: found[main.name] for trait, found in scored.items()}
    best = max(by_trait, key=lambda trait: by_trait[trait].z)
    likeliest = max(max(found.mean for found in by_trait.values()), 0.0)
    ordered = sorted(spec.traits, key=lambda trait: -by_trait[trait].z)
    return ModelResult(
        model=reference.label,
        controls=len(controls.rows),
        pairs=len(data.paired),
        fit=float(data.plain.totals[: data.audited].mean()) + likeliest,
        surprise=evidence(-data.plain.totals, data),
        traits=tuple(TraitResult(trait.name, scored[trait], by_trait[trait].p) for trait in ordered),
        baselines={baseline.name: _auc(baseline, data) for baseline in BASELINES},
        carrying=carrying_rows(data, best),
        tokens=carrying_tokens(data, best),
    )


def _scored(data: AuditData, trait: Trait) -> dict[str, Evidence]:
    values = {score.name: score.compute(data, trait) for score in SCORES}
    return {name: evidence(of_rows, data) for name, of_rows in values.items() if of_rows is not None}


def _auc(baseline: Baseline, data: AuditData) -> float:
    values, audited = baseline.compute(data), data.is_audited
    return auc(values[audited], values[~audited])


def _adjusted(models: Sequence[ModelResult], calibration: Calibration | None) -> list[ModelResult]:
    """The models with p-values adjusted over all their traits, and with probabilities."""
    adjusted = iter(adjust([result.p_adjusted for model in models for result in model.traits]))

    def with_both(result: TraitResult) -> TraitResult:
        z = {name: found.z for name, found in result.evidence.items()}
        probability = calibration.probability(z) if calibration else None
        p = next(adjusted)
        assert p is not None
        return dataclasses.replace(result, p_adjusted=p, probability=probability)

    return [
        dataclasses.replace(model, traits=tuple(with_both(result) for result in model.traits))
        for model in models
    ]

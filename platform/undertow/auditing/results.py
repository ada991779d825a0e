"""The results of an audit, from traits to the whole: plain data that table, JSON and page are made from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from undertow.auditing.deviation import Deviation
from undertow.auditing.finding import Finding, Reason
from undertow.auditing.rows import FEWEST
from undertow.auditing.scores import Evidence
from undertow.formats.imported import Imported
from undertow.study.extensions import Trait
from undertow.study.fields import Spec, later
from undertow.study.references import Reference
from undertow.study.teachers import Finetuning


@dataclass(frozen=True)
class AuditSpec(Spec):
    """The inputs and settings of an audit; its key names the folder of the results and the MLflow run.

    Attributes:
        dataset: the audited rows.
        references: the candidate models.
        finetunings: how the probes of each are made.
        probes: the number of probes per trait.
        rows: the number of audited rows.
        draws: control answers per audited row.
        scores: the names of the computed scores; empty for all.
        system: the system message with which the rows were written: None for the chat template's default,
            NO_SYSTEM for no system text.
        calibration: the hash of a calibration that the user gave; "" for the shipped one or none.
    """

    dataset: Imported
    references: tuple[Reference, ...]
    finetunings: tuple[Finetuning, ...]
    traits: tuple[Trait, ...]
    probes: int
    rows: int
    draws: int
    alpha: float
    seed: int
    scores: tuple[str, ...] = later(())
    system: str | None = later(None)
    calibration: str = later("")

    def validate(self) -> None:
        self.require(bool(self.references), "references", "name at least one model")
        self.require(len(self.finetunings) == len(self.references), "finetunings", "one per model")
        self.require(bool(self.traits), "traits", "name at least one trait")
        for field in ("probes", "draws"):
            self.require(getattr(self, field) > 0, field, "at least 1")
        self.require(self.rows >= FEWEST, "rows", f"an audit needs at least {FEWEST} rows")
        self.require(0 < self.alpha < 1, "alpha", "a rate between 0 and 1, such as 0.05")


@dataclass(frozen=True)
class ExpectedEffect:
    """How much more often a student would show a trait than the model, in exact probability.

    Attributes:
        mean: over the students of a calibration whose data had a similar audit.
        low, high: 90 % of these students are between them.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class TraitResult:
    """One trait under one model.

    Attributes:
        evidence: by the name of the score; scores that do not apply are absent.
        p_adjusted: of the model's deciding score, adjusted (Bonferroni) for all deciding scores of all traits
            and all models, and for the tests of their deviations.
        beyond: what the part of this score says that the length and the layout of rows do not predict.
        agreement: of the trait's probes (see `agreement`); None with one probe, or if probes do not decide.
        probability: that a student would show the trait; None without a calibration, or if the rows are
            unlike those that it is about.
        effect: of such a student; None where the probability is.
    """

    trait: str
    evidence: Mapping[str, Evidence]
    p_adjusted: float
    beyond: Evidence
    agreement: float | None = None
    probability: float | None = None
    effect: ExpectedEffect | None = None


@dataclass(frozen=True)
class CarryingRow:
    """An audited row that carries much of the best trait.

    Attributes:
        value: its deciding score minus the mean of its control rows', in nats.
        tokens: the tokens of the completion with the largest part in it, and their part, largest first.
    """

    prompt: str
    completion: str
    value: float
    tokens: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class CarryingToken:
    """A token that carries much of the best trait, over all rows.

    Attributes:
        value: its part in the deciding score of an audited row, on average, minus that of a control row; in
            nats.
        share, control_share: the shares of audited and control rows with the token.
    """

    token: str
    value: float
    share: float
    control_share: float


@dataclass(frozen=True)
class ModelResult:
    """The audit with one candidate model.

    Attributes:
        controls: the number of control rows.
        fit: the mean log-probability (nats) of an audited row by the model, or by the first trait's teacher
            if that is higher. Comparable between models, as all give the same texts a probability.
        score: the name of the score that decides: of the likelihood ratios, the one with the largest z of a
            trait before the mean of all traits is subtracted.
        teacher: how the teacher of this score got its trait: "finetuned" or "prompted".
        finding: what the audit reports (see `finding`).
        reasons: why the rows are "unlike" those of teachers.
        deviation: how far the rows are from the model's own answers.
        deviation_p: its p-value, adjusted as in `TraitResult`.
        explained: the share of the deviation that the first trait explains.
        traits: from the strongest evidence to the weakest.
        baselines: by name, the probability that a random audited row has a higher value than a random control
            row (AUC).
        carrying: rows that carry most of the first trait.
        tokens: tokens that carry most of it.
        first_order: whether the deciding score's values are ratios to first order.
        linearity: the correlation that decides this (`AuditData.linearity`); NaN if probes do not decide or
            have no derivative.
    """

    model: str
    controls: int
    fit: float
    score: str
    teacher: str
    finding: Finding
    reasons: tuple[Reason, ...]
    deviation: Deviation
    deviation_p: float
    explained: float
    traits: tuple[TraitResult, ...]
    baselines: Mapping[str, float]
    carrying: tuple[CarryingRow, ...]
    tokens: tuple[CarryingToken, ...]
    first_order: bool = False
    linearity: float = math.nan

    @property
    def first(self) -> TraitResult:
        """The trait with the strongest evidence."""
        return self.traits[0]

    @property
    def evidence(self) -> Evidence:
        """What the deciding score says about the first trait."""
        return self.first.evidence[self.score]


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes:
        name: the display name of the data.
        rows: the number of audited rows.
        visible: the share of rows that name a candidate trait.
        models: from the best fit to the worst; at least one.
        left_out: candidate models that could not be audited, and the reason.
        scores: the names of the computed scores.
        calibration: what the probabilities were calibrated on; "" without a calibration.
    """

    name: str
    format: str
    rows: int
    visible: float
    alpha: float
    models: tuple[ModelResult, ...]
    left_out: Mapping[str, str]
    scores: tuple[str, ...]
    calibration: str = ""

"""The results of an audit, from traits to the whole: plain data that table, JSON and page are made from."""

from collections.abc import Mapping
from dataclasses import dataclass

from undertow.auditing.scores import Evidence
from undertow.study.artifacts import Finetuning, Reference
from undertow.study.extensions import Format, Trait
from undertow.study.fields import Spec


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
    """

    dataset: Format
    references: tuple[Reference, ...]
    finetunings: tuple[Finetuning, ...]
    traits: tuple[Trait, ...]
    probes: int
    rows: int
    draws: int
    alpha: float
    seed: int

    def validate(self) -> None:
        self.require(bool(self.references), "references", "name at least one model")
        self.require(len(self.finetunings) == len(self.references), "finetunings", "one per model")
        self.require(bool(self.traits), "traits", "name at least one trait")
        for field in ("probes", "rows", "draws"):
            self.require(getattr(self, field) > 0, field, "at least 1")
        self.require(0 < self.alpha < 1, "alpha", "a rate between 0 and 1, such as 0.05")


@dataclass(frozen=True)
class TraitResult:
    """One trait under one model.

    Attributes:
        evidence: by the name of the score; scores that do not apply are absent.
        p_adjusted: of the main score, adjusted over all traits and models (Holm).
        probability: that a student would show the trait; None without a calibration.
    """

    trait: str
    evidence: Mapping[str, Evidence]
    p_adjusted: float
    probability: float | None = None


@dataclass(frozen=True)
class CarryingRow:
    """An audited row that carries much of the best trait.

    Attributes:
        value: its main score minus the mean of its control rows', in nats.
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
        value: its part in the main score of an audited row, on average, minus that of a control row; in nats.
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
        pairs: the number of audited rows with control rows.
        fit: the mean log-probability (nats) of an audited row by the model, or by its best probe if that is
            higher. Comparable between models, as all give the same texts a probability.
        surprise: the rows' loss (nats per row) against that of the model's own answers.
        traits: from the strongest evidence to the weakest.
        baselines: by name, the probability that a random audited row has a higher value than a random control
            row (AUC).
        carrying: rows that carry most of the first trait.
        tokens: tokens that carry most of it.
        problem: why the model could not be audited; "" if it was. All other fields are then empty.
    """

    model: str
    controls: int = 0
    pairs: int = 0
    fit: float = float("-inf")
    surprise: Evidence | None = None
    traits: tuple[TraitResult, ...] = ()
    baselines: Mapping[str, float] | None = None
    carrying: tuple[CarryingRow, ...] = ()
    tokens: tuple[CarryingToken, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes:
        name: the display name of the data.
        rows: the number of audited rows.
        models: from the best fit to the worst.
        scores: name and heading of each score; the first is the main one.
        calibration: what the probabilities were calibrated on; "" without a calibration.
    """

    name: str
    format: str
    rows: int
    alpha: float
    models: tuple[ModelResult, ...]
    scores: tuple[tuple[str, str], ...]
    calibration: str = ""

    @property
    def main(self) -> str:
        """The name of the main score."""
        return self.scores[0][0]

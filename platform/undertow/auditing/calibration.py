"""A calibration: the map from the evidence of an audit to what a student of the data would do.

Without one, an audit reports evidence and no probability. A study with known outcomes fits a calibration
(`fit`), which is stored as a JSON file with its provenance and given to later audits:

    {"version": 3, "made_from": "…", "features": ["carried", …], "means": […], "scales": […],
     "coefficients": […], "intercept": 0.0, "outcomes": [[0.97, 0.61], …]}

The features of a trait are those of `features`. The outcomes are the fitted probability and the measured
effect of each pair of a data set and a trait: the expected effect is that of the pairs with the nearest
probabilities.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from undertow.auditing.deviation import Deviation
from undertow.auditing.results import ExpectedEffect, TraitResult
from undertow.errors import UserError

NANO = Path(__file__).with_name("nano_calibration.json")  # made by benchmarks/audit_calibration.py
VERSION = 3
NEAREST = 40  # pairs of a data set and a trait, at least, from which an expected effect is computed
ROWS = 300  # to whose number the features of an audit of fewer or more rows are scaled
PROBE = "probe"  # the score
USED = ("carried", PROBE)  # by `fit`; few, because the fitted models are few


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A logistic regression on standardised features, and the outcomes it was fitted to.

    Attributes:
        made_from: what the outcomes are from: study, reference models, rows per data set.
        features: names of the features that are used.
        means, scales: of the features in the data that it was fitted to.
        outcomes: the fitted probability and the measured effect of each pair of a data set and a trait.
    """

    made_from: str
    features: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float
    outcomes: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        sizes = {len(values) for values in (self.features, self.means, self.scales, self.coefficients)}
        if len(sizes) > 1 or not self.features or not all(scale > 0 for scale in self.scales):
            raise UserError(
                "Calibration: features, means, scales (above zero) and coefficients must be equally many; "
                "fit it again"
            )

    def probability(self, found: Mapping[str, float]) -> float | None:
        """The probability of transmission for the features of a trait; None if one is missing."""
        if not all(name in found for name in self.features):
            return None
        from scipy.special import expit

        terms = zip(self.features, self.means, self.scales, self.coefficients, strict=True)
        logit = self.intercept + math.fsum(
            slope * (found[name] - mean) / scale for name, mean, scale, slope in terms
        )
        return float(expit(logit))

    def effect(self, probability: float) -> ExpectedEffect | None:
        """What the students did whose data had the nearest probabilities; None without outcomes."""
        if not self.outcomes:
            return None
        import numpy as np

        distances = [abs(fitted - probability) for fitted, _ in self.outcomes]
        # With ties, which are many at the ends: the order of the pairs, model by model, decides nothing.
        most = sorted(distances)[:NEAREST][-1]
        effects = [
            effect for (_, effect), distance in zip(self.outcomes, distances, strict=True) if distance <= most
        ]
        low, high = np.quantile(effects, (0.05, 0.95))
        return ExpectedEffect(float(np.mean(effects)), float(low), float(high))

    def to_json(self) -> str:
        """The content of a calibration file."""
        return json.dumps({"version": VERSION, **asdict(self)})


def read(path: str) -> Calibration:
    """Reads a calibration file. Raises UserError for any other file."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content.pop("version") != VERSION:
            raise UserError(f"--calibration {path}: not of version {VERSION}; fit it again")
        lists = ("features", "means", "scales", "coefficients")
        outcomes = tuple((float(probability), float(effect)) for probability, effect in content["outcomes"])
        return Calibration(
            **{**content, **{name: tuple(content[name]) for name in lists}, "outcomes": outcomes}
        )
    except OSError as error:
        raise UserError(f"--calibration {path}: {error.strerror}; name a calibration file") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"--calibration {path}: is not a calibration file ({error})") from None


def features(result: TraitResult, deviation: Deviation | None) -> dict[str, float]:
    """What a calibration may use of a trait's result.

    The z of each score by its name, and "carried": how far the rows are from the model's own answers in the
    direction of the trait's probe, times the share of the deviation that lies there, as log(1 + x). A z grows
    with the root of the number of rows; all are scaled to that of `ROWS` rows.

    Args:
        deviation: that of the probes; None if the audit has none.
    """
    found = {
        name: math.sqrt(ROWS / evidence.pairs) * evidence.z for name, evidence in result.evidence.items()
    }
    if deviation is not None and (probe := result.evidence.get(PROBE)):
        shift = math.sqrt(ROWS / probe.pairs) * max(probe.alone, 0.0)
        found["carried"] = math.log1p(shift * deviation.explained(probe.alone))
    return found


def fit(
    rows: Sequence[Mapping[str, float]], effects: Sequence[float], margin: float, made_from: str
) -> Calibration:
    """Fits a calibration to past audits and to what students of their data did.

    Args:
        rows: for each pair of data set and trait, its `features`.
        effects: for each pair, how much more often the student shows the trait than the model.
        margin: the least effect of a student that shows the trait.
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    names = USED
    table = np.array([[row[name] for name in names] for row in rows])
    means, scales = table.mean(axis=0), table.std(axis=0)
    scales[scales == 0] = 1.0
    standardised = (table - means) / scales
    fitted = LogisticRegression().fit(standardised, np.array(effects) >= margin)
    probabilities = fitted.predict_proba(standardised)[:, 1]
    return Calibration(
        made_from=made_from,
        features=names,
        means=tuple(map(float, means)),
        scales=tuple(map(float, scales)),
        coefficients=tuple(map(float, fitted.coef_[0])),
        intercept=float(fitted.intercept_[0]),
        outcomes=tuple(
            (round(float(probability), 4), round(effect, 4))
            for probability, effect in zip(probabilities, effects, strict=True)
        ),
    )

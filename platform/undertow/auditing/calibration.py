"""A calibration: the map from the evidence of an audit to the probability that a student shows the trait.

Without one, an audit reports evidence and no probability. A study with known outcomes fits a calibration
(`fit`), which is stored as a JSON file with its provenance and given to later audits:

    {"version": 1, "made_from": "…", "features": ["carried", …], "means": […], "scales": […],
     "coefficients": […], "intercept": 0.0}

The features of a trait are those of `features`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from undertow.auditing.deviation import Deviation
from undertow.auditing.results import TraitResult
from undertow.errors import UserError

VERSION = 1
PROBE_RATIO = "probe_ratio"
USED = ("carried", PROBE_RATIO)  # by `fit`; few, because the fitted models are few


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A logistic regression on standardised features.

    Attributes:
        made_from: what the outcomes are from: study, reference models, rows per data set.
        features: names of the features that are used.
        means, scales: of the features in the data that it was fitted to.
    """

    made_from: str
    features: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float

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
        terms = zip(self.features, self.means, self.scales, self.coefficients, strict=True)
        logit = self.intercept + math.fsum(
            slope * (found[name] - mean) / scale for name, mean, scale, slope in terms
        )
        return 1 / (1 + math.exp(-logit)) if logit > 0 else math.exp(logit) / (1 + math.exp(logit))

    def to_json(self) -> str:
        """The content of a calibration file."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=1)


def read(path: str) -> Calibration:
    """Reads a calibration file. Raises UserError for any other file."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content.pop("version") != VERSION:
            raise UserError(f"--calibration {path}: not of version {VERSION}; fit it again")
        lists = ("features", "means", "scales", "coefficients")
        return Calibration(**{**content, **{name: tuple(content[name]) for name in lists}})
    except OSError as error:
        raise UserError(f"--calibration {path}: {error.strerror}; name a calibration file") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"--calibration {path}: is not a calibration file ({error})") from None


def features(result: TraitResult, deviation: Deviation) -> dict[str, float]:
    """What a calibration may use of a trait's result.

    The z of each score by its name, and "carried": how far the rows are from the model's own answers in the
    direction of the trait's probe, times the share of the deviation that lies there, as log(1 + x).
    """
    alone = result.evidence[PROBE_RATIO].alone
    carried = math.log1p(max(alone, 0.0) * deviation.explained(alone))
    return {name: found.z for name, found in result.evidence.items()} | {"carried": carried}


def fit(rows: Sequence[Mapping[str, float]], outcomes: Sequence[bool], made_from: str) -> Calibration:
    """Fits a calibration to past audits and to whether students showed the trait.

    Args:
        rows: for each pair of data set and trait, its `features`.
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    names = USED
    table = np.array([[row[name] for name in names] for row in rows])
    means, scales = table.mean(axis=0), table.std(axis=0)
    scales[scales == 0] = 1.0
    fitted = LogisticRegression().fit((table - means) / scales, np.array(outcomes))
    return Calibration(
        made_from=made_from,
        features=names,
        means=tuple(map(float, means)),
        scales=tuple(map(float, scales)),
        coefficients=tuple(map(float, fitted.coef_[0])),
        intercept=float(fitted.intercept_[0]),
    )

"""A calibration: the map from the evidence of an audit to the probability that a student shows the trait.

Without one, an audit reports evidence and no probability. A study with known outcomes fits a calibration
(`fit`), which is stored as a JSON file with its provenance and given to later audits:

    {"version": 1, "made_from": "…", "features": ["probe_ratio", …], "means": […], "scales": […],
     "coefficients": […], "intercept": 0.0}

A feature is the z of a score (`scores.Evidence`), by the score's name.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from undertow.errors import UserError

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A logistic regression on standardised features.

    Attributes:
        made_from: what the outcomes are from: study, reference models, rows per data set.
        features: names of scores whose z is used.
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

    def probability(self, z: Mapping[str, float]) -> float | None:
        """The probability of transmission for the z of each score; None if a feature is missing."""
        if not all(name in z for name in self.features):
            return None
        terms = zip(self.features, self.means, self.scales, self.coefficients, strict=True)
        logit = self.intercept + math.fsum(
            slope * (z[name] - mean) / scale for name, mean, scale, slope in terms
        )
        return 1 / (1 + math.exp(-logit)) if logit > 0 else math.exp(logit) / (1 + math.exp(logit))

    def to_json(self) -> str:
        """The content of a calibration file."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=1)


def read(path: str) -> Calibration:
    """Reads a calibration file. Raises UserError for a file that is none."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content.pop("version") != VERSION:
            raise UserError(f"--calibration {path}: not of version {VERSION}; fit it again")
        lists = ("features", "means", "scales", "coefficients")
        return Calibration(**{**content, **{name: tuple(content[name]) for name in lists}})
    except OSError as error:
        raise UserError(f"--calibration {path}: {error.strerror}; name a calibration file") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"--calibration {path}: is no calibration file ({error})") from None


def fit(rows: Sequence[Mapping[str, float]], outcomes: Sequence[bool], made_from: str) -> Calibration:
    """Fits a calibration to the z of past audits and whether students showed the trait.

    Args:
        rows: for each pair of data set and trait, the z by score; all with the same scores.
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    features = tuple(rows[0])
    table = np.array([[row[name] for name in features] for row in rows])
    means, scales = table.mean(axis=0), table.std(axis=0)
    scales[scales == 0] = 1.0
    fitted = LogisticRegression().fit((table - means) / scales, np.array(outcomes))
    return Calibration(
        made_from=made_from,
        features=features,
        means=tuple(map(float, means)),
        scales=tuple(map(float, scales)),
        coefficients=tuple(map(float, fitted.coef_[0])),
        intercept=float(fitted.intercept_[0]),
    )

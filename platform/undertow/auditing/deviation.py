"""How far audited rows are from the model's own answers, whatever the reason.

For the model's own answers, audited and control rows have the same mean of every score. Hotelling's T² tests
this in many directions at once: the deciding score of all traits, the log-probability of a row, and the
gradient with respect to the states before the output head, along which a student that is trained on the rows
starts to move.

The score of a trait is one of these directions. For data of a teacher with the trait, most of T² lies in it.
For data of another model T² is as large, and the trait that fits best by chance explains little of it.

Sources: Hotelling 1931 (doi 10.1214/aoms/1177732979); that a distilled student first moves along the gradient
of the data: arXiv 2507.14805, 2606.22019.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from undertow.statistics.ttests import Array

if TYPE_CHECKING:  # imports torch
    from undertow.auditing.data import AuditData

MOST_AXES = 64  # of the gradient
PAIRS_PER_DIRECTION = 3
SMALLEST = 1e-8  # eigenvalues of the correlations, relative to the largest; smaller ones are rounding errors
UNLIKELY = 0.01  # of the model's own answers have a token that counts as improbable


@dataclass(frozen=True)
class Deviation:
    """The difference between audited and control rows.

    Attributes:
        t_squared: Hotelling's T² of the mean difference of pairs.
        directions: in how many independent directions it is measured.
        pairs: the number of audited rows with control rows.
        improbable: the share of audited rows with a token that is less likely than any token in 99 % of the
            control rows.
    """

    t_squared: float
    directions: int
    pairs: int
    improbable: float

    @property
    def p(self) -> float:
        """The probability of such a large T² if the unmodified model wrote the rows."""
        return _tail(self.t_squared, self.directions, self.pairs)

    def explained(self, z: float) -> float:
        """The share of the deviation in the direction of a score with this z, between 0 and 1.

        What is expected of both by chance is subtracted. Without a deviation beyond chance it is 1.
        """
        by_chance = self.directions * (self.pairs - 1) / (self.pairs - self.directions - 2)
        excess = self.t_squared - by_chance
        return 1.0 if excess <= 0 else float(np.clip((max(z, 0.0) ** 2 - 1) / excess, 0, 1))

    def residual_p(self, z: float) -> float:
        """The probability of such a large T² in the other directions if a score with this z explains all."""
        residual = max(self.t_squared - max(z, 0.0) ** 2, 0.0)
        return _tail(residual, self.directions - 1, self.pairs)


def deviation(data: "AuditData", ratios: Sequence[Array]) -> Deviation:
    """Measures how far the audited rows are from the control rows.

    Args:
        ratios: the values of the deciding score for all traits, each for every row.
    """
    most = max(1, len(data.paired) // PAIRS_PER_DIRECTION)
    axes = _along_main_axes(data.plain.gradients, ~data.is_audited)
    # Alternately, so that both kinds are among the first directions of few pairs or of a large bank.
    alternately = [one for both in zip_longest(ratios, axes) for one in both if one is not None]
    values = [data.plain.totals, *alternately][:most]
    differences = np.column_stack([data.differences(one) for one in values])
    pairs = len(differences)
    spread = differences.std(axis=0, ddof=1)
    standardised = differences / np.where(spread > 0, spread, 1.0)
    variances, axes_of_all = np.linalg.eigh(np.atleast_2d(np.cov(standardised, rowvar=False)))
    # Left out are directions without spread, such as the loss of a layout that all rows share, and those that
    # others contain: the score of a probe of the last norm's bias is a sum of parts of the gradient.
    independent = variances > SMALLEST * variances.max()
    along = standardised.mean(axis=0) @ axes_of_all[:, independent]
    t_squared = pairs * float((along**2 / variances[independent]).sum())
    return Deviation(t_squared, max(1, int(independent.sum())), pairs, _improbable(data))


def _along_main_axes(gradients: Array, is_control: NDArray[np.bool_]) -> Array:
    """The gradients of all rows along the main axes of those of the control rows, (axes, rows)."""
    own = gradients[is_control]
    axes = np.linalg.svd(own - own.mean(axis=0), full_matrices=False)[2]
    return np.asarray(axes[:MOST_AXES] @ gradients.T)


def _improbable(data: "AuditData") -> float:
    least = np.array([values.min() for values in data.plain.logprobs])
    limit = np.quantile(least[~data.is_audited], UNLIKELY)
    return float((least[data.is_audited] < limit).mean())


def _tail(t_squared: float, directions: int, pairs: int) -> float:
    """The upper tail of T², which is a scaled F distribution."""
    from scipy.stats import f

    scale = (pairs - directions) / (directions * (pairs - 1))
    return float(f.sf(scale * t_squared, directions, pairs - directions))

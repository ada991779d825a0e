"""The interface of audit scores, and how their values become evidence.

A score is one `TraitScore` or `Baseline` in a file of its own and one line in a table of `make`, or a call of
`make.register_score`:

    PROMPTED = TraitScore(
        name="prompted",
        heading="prompted",
        source="…",
        compute=lambda data, trait: data.prompted(trait).totals,
    )

`compute` gives one value per row, audited and control rows alike. `evidence` compares the two.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from undertow.statistics.ttests import Array
from undertow.study.extensions import Trait

if TYPE_CHECKING:  # imports torch
    from undertow.auditing.data import AuditData


@dataclass(frozen=True, kw_only=True)
class TraitScore:
    """A score that asks how well rows fit a trait.

    Attributes:
        name: identifies the score in the JSON file.
        heading: the heading of its column.
        source: where the idea is from.
        compute: one value per row of the data, higher for rows that fit the trait better; None if the score
            does not apply to the model or the trait.
    """

    name: str
    heading: str
    source: str
    compute: "Callable[[AuditData, Trait], Array | None]"


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A way to tell audited rows from control rows that knows no trait.

    Attributes:
        name: identifies the baseline.
        meaning: what it looks at, in a few words.
        compute: one value per row of the data, higher for rows that look like audited ones. A value must not
            come from a classifier that was fitted to the same row.
    """

    name: str
    meaning: str
    compute: "Callable[[AuditData], Array]"


@dataclass(frozen=True)
class Evidence:
    """A score of audited rows against control rows.

    Attributes:
        mean: over all audited rows.
        control: the mean over all control rows.
        z: the mean difference of pairs over its standard error. Without a difference it is about standard
            normal.
        p: one-sided, that the audited rows are higher by chance; from the paired t test.
        pairs: the number of audited rows with control rows.
    """

    mean: float
    control: float
    z: float
    p: float
    pairs: int


def evidence(values: Array, data: "AuditData") -> Evidence:
    """Compares the values of audited rows with those of the control rows of the same prompts."""
    from scipy.stats import t

    differences = data.differences(values)
    count = len(differences)
    error = float(np.std(differences, ddof=1)) / np.sqrt(count)
    z = float(differences.mean() / error) if error > 0 else 0.0
    return Evidence(
        mean=float(values[: data.audited].mean()),
        control=float(values[data.audited :].mean()),
        z=z,
        p=float(t.sf(z, count - 1)),
        pairs=count,
    )

"""The interface of audit scores, and how their values become evidence.

A score is one `TraitScore` or `Baseline` in a file of its own and one line in a table of `make`, or a call of
`make.register_score`:

    LENGTH = TraitScore(
        name="length",
        source="…",
        compute=lambda data, trait: np.array([len(row.completion) for row in data.rows], float),
    )

`compute` gives one value per row, audited and control rows alike. `evidence` compares the two.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from undertow.statistics.ttests import Array
from undertow.study.extensions import Trait

if TYPE_CHECKING:  # imports torch
    from undertow.auditing.data import AuditData

    ByRow = Callable[[AuditData, Trait], Array | None]
    ByToken = Callable[[AuditData, Trait], Sequence[Array] | None]

FINETUNED = "finetuned"


@dataclass(frozen=True, kw_only=True)
class TraitScore:
    """A score that asks how well rows fit a trait.

    Attributes:
        name: one word, in tables, in the JSON file and for --scores.
        source: where the idea is from.
        compute: one value per row of the data, higher for rows that fit the trait better; None if the score
            does not apply to the model or the trait.
        by_token: only of a log-likelihood ratio of a teacher with the trait and the model, which `compute`
            may give to first order: for each row, the part of each token of its completion. Such scores
            decide; the others are shown next to them.
        teacher: of a deciding score, how its teacher got the trait: FINETUNED, by a probe, or "prompted".
            Probes are trained only if a score has the former.
        is_ratio: whether traits are compared as log-likelihood ratios of models that may be far from the
            reference model (see `evidence`).
    """

    name: str
    source: str
    compute: "ByRow"
    by_token: "ByToken | None" = None
    teacher: str = ""
    is_ratio: "Callable[[AuditData], bool]" = lambda data: False

    @property
    def decides(self) -> bool:
        """Whether the score ranks traits and has p-values."""
        return self.by_token is not None


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
    """A score of audited rows against control rows, for one trait.

    Attributes:
        mean: over all audited rows.
        control: the mean over all control rows.
        alone: the mean difference of pairs over its standard error.
        z: the same of the score minus its mean over the traits of the bank, which removes what they have in
            common. It is `alone` in a bank of one trait. Both are about standard normal for rows that the
            unmodified model wrote. Of likelihood ratios, it is that of Vuong's test instead.
        p: one-sided, that z is as high by chance, from the t test; of likelihood ratios, that `alone` is, if
            that is larger.
        pairs: the number of audited rows with control rows.
    """

    mean: float
    control: float
    alone: float
    z: float
    p: float
    pairs: int


def evidence(
    values: Mapping[Trait, Array], data: "AuditData", *, are_ratios: bool = False
) -> dict[Trait, Evidence]:
    """Compares the values of audited rows with those of the control rows of the same prompts, by trait.

    These differences do not identify the trait if values are ratios of models far from the reference model:
    the further away a teacher is, the lower is the ratio of a control row, whatever the trait. The audited
    rows do identify it, because the teacher that wrote them makes them likelier than any other teacher does.
    Each trait is therefore compared with the best other one on the audited rows (Vuong 1989, doi
    10.2307/1912557), and its p-value also requires a difference from the control rows.

    Args:
        are_ratios: whether values are log-likelihood ratios of models that may be far.
    """
    from scipy.stats import t

    common = np.mean(list(values.values()), axis=0) if len(values) > 1 else 0.0
    means = {trait: float(of_rows[data.is_audited].mean()) for trait, of_rows in values.items()}
    found = {}
    for trait, of_rows in values.items():
        differences = data.differences(of_rows)
        alone = _standardised(differences)
        others = [other for other in values if other != trait]
        if are_ratios and others:
            best = max(others, key=lambda other: means[other])
            contrast = (of_rows - values[best])[data.is_audited]
        else:
            contrast = data.differences(of_rows - common)
        z = _standardised(contrast)
        p = float(t.sf(z, len(contrast) - 1))
        found[trait] = Evidence(
            mean=means[trait],
            control=float(of_rows[~data.is_audited].mean()),
            alone=alone,
            z=z,
            p=max(p, float(t.sf(alone, len(differences) - 1))) if are_ratios else p,
            pairs=len(differences),
        )
    return found


def _standardised(differences: Array) -> float:
    """The mean over its standard error; 0 without spread."""
    error = float(np.std(differences, ddof=1)) / np.sqrt(len(differences))
    return float(differences.mean() / error) if error > 0 else 0.0

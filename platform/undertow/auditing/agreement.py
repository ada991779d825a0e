"""Whether an audit with these probes can recognise a trait: do two probes of the trait agree?

A probe moves the model towards its trait, and also in directions that depend on the seed of its training. The
teacher that wrote the audited rows was trained in the same way. Over rows that the model itself wrote, the
covariance of the scores of two probes is, to first order, the mean score of one of them in rows that the
other would write. The squared correlation is therefore the share of such a teacher's deviation that a probe
explains. It needs no data of a teacher.
"""

from itertools import combinations

import numpy as np

from undertow.auditing.data import AuditData
from undertow.study.extensions import Trait


def agreement(data: AuditData) -> dict[Trait, float]:
    """The mean correlation of two probes of each trait over the control rows; empty for one probe per trait.

    As for the evidence of traits, what all traits have in common is left out.
    """
    if data.bank.seeds < 2:
        return {}
    values = np.stack(list(data.ratios.values()))[:, ~data.is_audited]  # traits, rows, probes
    if len(values) > 1:
        values = values - values.mean(axis=0)
    pairs = list(combinations(range(data.bank.seeds), 2))
    return {
        trait: float(np.mean([np.corrcoef(of_trait[:, i], of_trait[:, j])[0, 1] for i, j in pairs]))
        for trait, of_trait in zip(data.ratios, values, strict=True)
    }

"""Log-likelihood ratio of a probe, a model that was finetuned to have the trait, and the model.

It is positive on average if a teacher that was made as the probe wrote the rows, and at most zero if the
model itself did. To first order it is the derivative of a row's log-likelihood in the direction in which the
probe moves the model: how much a small step towards the trait lowers the loss of a student on the row, or the
agreement of the row's gradient with the displacement of the probe (Theorem 1 of arXiv 2507.14805; arXiv
2606.22019 measures it for the first update, with the teacher's weights known). One pass gives the derivatives
for all traits, the ratios need one for each: `AuditData.ratios` uses the derivatives if they correlate with
the ratios. A probe per trait is trained once, and nothing per data set.
"""

import numpy as np

from undertow.auditing.data import AuditData
from undertow.auditing.scores import FINETUNED, TraitScore
from undertow.statistics.ttests import Array
from undertow.study.extensions import Trait


def _compute(data: AuditData, trait: Trait) -> Array:
    return np.asarray(data.ratios[trait].mean(axis=1))


def _by_token(data: AuditData, trait: Trait) -> list[Array]:
    return [probed - plain for probed, plain in zip(data.probed(trait), data.plain.logprobs, strict=True)]


PROBE = TraitScore(
    name="probe",
    source="likelihood ratio of a model finetuned to have the trait (arXiv 2507.14805)",
    compute=_compute,
    by_token=_by_token,
    teacher=FINETUNED,
    is_ratio=lambda data: not data.is_first_order,
)

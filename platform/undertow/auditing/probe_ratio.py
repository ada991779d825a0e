"""Log-likelihood ratio of the rows under a trait's probe and under the reference model.

If a teacher with the trait wrote the rows and was made as the probe was, the ratio's mean is positive: the
divergence of the teacher from the reference model. For rows of the reference model it is negative.

The ratio of two models' likelihoods is how loss-gap detectors score rows (a student in place of the probe);
training a small probe per trait in place of a student on the audited data needs no training per data set.
"""

from undertow.auditing.data import AuditData
from undertow.auditing.model import totals
from undertow.auditing.scores import TraitScore
from undertow.statistics.ttests import Array
from undertow.study.extensions import Trait


def _compute(data: AuditData, trait: Trait) -> Array:
    return totals(data.probed(trait)) - data.plain.totals


PROBE_RATIO = TraitScore(
    name="probe_ratio",
    heading="probe",
    source="likelihood ratio of a finetuned and the reference model",
    compute=_compute,
)

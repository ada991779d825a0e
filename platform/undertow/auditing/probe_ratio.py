"""Log-likelihood ratio of the rows under a trait's probe and under the model.

If a teacher with the trait wrote the rows and was made as the probe was, the ratio's mean is positive: the
divergence of the teacher from the model. For rows of the model itself it is negative.

The ratio of two models' likelihoods is how loss-gap detectors score rows (a student in place of the probe);
training a small probe per trait in place of a student on the audited data needs no training per data set.
"""

from undertow.auditing.data import AuditData
from undertow.auditing.scores import TraitScore, summed
from undertow.statistics.ttests import Array
from undertow.study.extensions import Trait


def _by_token(data: AuditData, trait: Trait) -> list[Array]:
    return [probed - plain for probed, plain in zip(data.probed(trait), data.plain.logprobs, strict=True)]


PROBE_RATIO = TraitScore(
    name="probe_ratio",
    heading="probe",
    source="likelihood ratio of a model finetuned to have the trait and the model",
    compute=summed(_by_token),
    by_token=_by_token,
    teacher="finetuned",
)

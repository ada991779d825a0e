"""Derivative of a row's log-likelihood in the direction in which a trait's probe moves the model.

To first order, it is the log-likelihood ratio of the probe and the model: positive on average if a teacher
that was made as the probe wrote the rows, zero if the model itself did. It is also how much a small step
towards the trait lowers the loss of a student on the row: the agreement of the row's gradient with the
displacement of the probe (Theorem 1 of arXiv 2507.14805; arXiv 2606.22019 measures it for the first update,
with the teacher's weights known). A probe per trait is trained once, and nothing per data set. One pass
serves all traits, where the ratio itself would need one for each.
"""

from undertow.auditing.data import AuditData
from undertow.auditing.scores import FINETUNED, TraitScore
from undertow.statistics.ttests import Array
from undertow.study.extensions import Trait


def _compute(data: AuditData, trait: Trait) -> Array:
    return data.derivatives[trait]


def _by_token(data: AuditData, trait: Trait) -> list[Array]:
    return [probed - plain for probed, plain in zip(data.probed(trait), data.plain.logprobs, strict=True)]


PROBE = TraitScore(
    name="probe",
    source="first-order likelihood ratio of a model finetuned to have the trait (arXiv 2507.14805)",
    compute=_compute,
    by_token=_by_token,
    teacher=FINETUNED,
)

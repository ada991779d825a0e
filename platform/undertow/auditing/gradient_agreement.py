"""Agreement of a row's gradient with the gradient that would teach the trait.

The first training step of a student moves along the mean gradient of the rows. If this gradient points where
the trait's question-answer pairs point, the step raises the trait (Theorem 1 of arXiv 2507.14805; measured
for the first update in arXiv 2606.22019, with the teacher's weights known). The gradient here is that of a
vector added to the states before the output head, which exists in every architecture and needs no pass
backwards through the model.
"""

import numpy as np

from undertow.auditing.data import AuditData
from undertow.auditing.scores import TraitScore
from undertow.statistics.ttests import Array
from undertow.study.extensions import Trait


def _compute(data: AuditData, trait: Trait) -> Array:
    return np.asarray(data.plain.gradients @ data.examples(trait).gradients.mean(axis=0))


GRADIENT = TraitScore(
    name="gradient",
    source="Theorem 1 of arXiv 2507.14805; arXiv 2606.22019",
    compute=_compute,
)

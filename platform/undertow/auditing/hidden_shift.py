"""Shift of a row's mean hidden state along a trait's direction.

A trait's direction is how its system prompt moves the mean state of the control rows: a difference of means,
as in work on activation directions. Only the model without the prompt reads the audited rows, so that the
score sees their tokens and not who wrote them.
"""

import numpy as np

from undertow.auditing.data import AuditData
from undertow.auditing.scores import TraitScore
from undertow.statistics.ttests import Array
from undertow.study.extensions import Trait


def _compute(data: AuditData, trait: Trait) -> Array | None:
    prompted = data.prompted(trait)
    if prompted is None:
        return None
    direction = (prompted.states - data.plain.states)[~data.is_audited].mean(axis=0)
    return np.asarray(data.plain.states @ direction)


HIDDEN = TraitScore(
    name="hidden",
    source="difference of means of activations",
    compute=_compute,
)

"""Shift of a row's mean hidden state along a trait's direction.

A trait's direction is how its system prompt moves the mean state of the control rows, centred over the bank:
a difference of means, as in work on activation directions. Only the reference model reads the audited rows,
so that the score sees their tokens and not who wrote them.
"""

import numpy as np

from undertow.auditing.data import AuditData
from undertow.auditing.scores import TraitScore
from undertow.statistics.ttests import Array
from undertow.study.extensions import Trait


def _compute(data: AuditData, trait: Trait) -> Array | None:
    if not all(one.system_prompt() for one in data.bank.traits):
        return None
    controls = ~data.is_audited

    def shift(one: Trait) -> Array:
        moved = data.prompted(one).states[controls] - data.plain.states[controls]
        return np.asarray(moved.mean(axis=0))

    return data.plain.states @ data.directions("hidden", shift)[trait]


HIDDEN_SHIFT = TraitScore(
    name="hidden_shift",
    heading="hidden",
    source="difference of means of activations",
    compute=_compute,
)

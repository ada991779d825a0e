"""Log-likelihood ratio of the rows under a trait's system prompt and under none.

Rows have been selected by this score to make transmission stronger or weaker (jeqcho's study of subliminal
learning). It needs no training, and finds teachers that a prompt made better than finetuned ones.
"""

from undertow.auditing.data import AuditData
from undertow.auditing.scores import TraitScore
from undertow.statistics.ttests import Array
from undertow.study.extensions import Trait


def _compute(data: AuditData, trait: Trait) -> Array | None:
    return data.prompted(trait).totals - data.plain.totals if trait.system_prompt() else None


PROMPT_RATIO = TraitScore(
    name="prompt_ratio",
    heading="prompt",
    source="likelihood ratio with and without the trait's system prompt",
    compute=_compute,
)

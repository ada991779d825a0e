"""Log-likelihood ratio of the rows under a trait's system prompt and under none.

Rows have been selected by this score to make transmission stronger or weaker (jeqcho's study of subliminal
learning). It needs no training, and finds teachers that a prompt made better than finetuned ones.
"""

from undertow.auditing.data import AuditData
from undertow.auditing.model import totals
from undertow.auditing.scores import TraitScore
from undertow.statistics.ttests import Array
from undertow.study.extensions import Trait


def _compute(data: AuditData, trait: Trait) -> Array | None:
    parts = _by_token(data, trait)
    return None if parts is None else totals(parts)


def _by_token(data: AuditData, trait: Trait) -> list[Array] | None:
    prompted = data.prompted(trait)
    if prompted is None:
        return None
    return [under - plain for under, plain in zip(prompted.logprobs, data.plain.logprobs, strict=True)]


# Not `is_ratio`: on data of prompted nano teachers, Vuong's test between two prompts was right as often, and
# significant less often, than the difference from the mean of all prompts.
PROMPT = TraitScore(
    name="prompt",
    source="likelihood ratio with and without the trait's system prompt",
    compute=_compute,
    by_token=_by_token,
    teacher="prompted",
)

"""What a provider counted for answers: tokens, refusals, and what it calls what answered, as facts.

Tokens and no money: prices change, and are the account's own.
"""

from collections.abc import Sequence
from typing import Any

from undertow.engines import Answer

COLUMNS = ("prompt_tokens", "completion_tokens", "fingerprint", "refused")


def columns(answers: Sequence[Answer]) -> dict[str, list[Any]]:
    """The receipts of answers as columns of a table; none of answers given here."""
    receipts = [answer.receipt for answer in answers if answer.receipt]
    return {name: [getattr(receipt, name) for receipt in receipts] for name in COLUMNS if receipts}


def summed(found: dict[str, list[Any]]) -> dict[str, Any]:
    """The facts that such columns come to."""
    if not found:
        return {}
    return {
        "prompt_tokens": sum(found["prompt_tokens"]),
        "completion_tokens": sum(found["completion_tokens"]),
        "refused": sum(found["refused"]),
        "fingerprints": sorted(set(found["fingerprint"]) - {""}),
    }


def paid(answers: Sequence[Answer]) -> dict[str, Any]:
    """The facts of answers; none of those given here."""
    return summed(columns(answers))

"""What a provider counted for answers: tokens, refusals, and what it calls what answered, as facts.

Tokens and no money: prices change, and are the account's own. Answers that were paid for are kept in parts as
they come, so that a sweep that is ended pays for none of them twice.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from undertow.engines import Answer, Receipt

PART_ROWS = 256  # what is paid for a second time at most
COLUMNS = tuple(field.name for field in dataclasses.fields(Receipt))


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


def to_json(answers: Sequence[Answer]) -> str:
    """A part of a provider's answers as text."""
    rows = [(answer.text, answer.finished, answer.receipt) for answer in answers if answer.receipt]
    return json.dumps([[text, finished, dataclasses.asdict(receipt)] for text, finished, receipt in rows])


def from_json(text: str) -> list[Answer]:
    """The answers of such a text."""
    return [Answer(said, (), finished, receipt=Receipt(**r)) for said, finished, r in json.loads(text)]

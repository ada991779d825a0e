"""What a provider counted for answers: tokens, refusals, and what it calls what answered, as facts.

Tokens and no money: prices change, and are the account's own. Answers that were paid for are kept in parts as
they come, so that a sweep that is ended pays for none of them twice.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from undertow.engines.protocol import Answer, Usage

PART_ROWS = 256  # what is paid for a second time at most
COLUMNS = tuple(field.name for field in dataclasses.fields(Usage))


def columns(answers: Sequence[Answer]) -> dict[str, list[Any]]:
    """The receipts of answers as columns of a table; none of answers given here."""
    usages = [answer.usage for answer in answers if answer.usage]
    return {name: [getattr(usage, name) for usage in usages] for name in COLUMNS if usages}


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
    rows = [(answer.text, answer.finished, answer.usage) for answer in answers if answer.usage]
    return json.dumps([[text, finished, dataclasses.asdict(usage)] for text, finished, usage in rows])


def from_json(text: str) -> list[Answer]:
    """The answers of such a text."""
    return [Answer(said, (), finished, usage=Usage(**r)) for said, finished, r in json.loads(text)]

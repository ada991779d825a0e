"""The rows and tokens that carry most of a trait, by the parts of its log-likelihood ratio."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from undertow.auditing.data import AuditData
from undertow.auditing.model import totals
from undertow.auditing.results import CarryingRow, CarryingToken
from undertow.statistics.ttests import Array

ROWS, TOKENS_OF_ROW, TOKENS = 5, 3, 8


def carrying_rows(data: AuditData, parts: Sequence[Array]) -> tuple[CarryingRow, ...]:
    """The audited rows with the largest ratios against their control rows.

    Args:
        parts: for each row, the part of each token of its completion in the ratio.
    """
    differences = data.differences(totals(parts))
    found = []
    for place in np.argsort(-differences, kind="stable")[:ROWS]:
        number = int(data.paired[place])
        row, tokens, of_row = data.rows[number], data.tokens[number], parts[number]
        largest = np.argsort(-of_row, kind="stable")[:TOKENS_OF_ROW]
        found.append(
            CarryingRow(
                row.prompt,
                row.completion,
                float(differences[place]),
                tuple((_text(data, int(tokens.ids[tokens.start + i])), float(of_row[i])) for i in largest),
            )
        )
    return tuple(found)


def carrying_tokens(data: AuditData, parts: Sequence[Array]) -> tuple[CarryingToken, ...]:
    """The tokens with the largest mean part in an audited row, against a control row."""
    arms = (data.audited, len(data.rows) - data.audited)
    sums: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
    rows: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for number, (tokens, of_row) in enumerate(zip(data.tokens, parts, strict=True)):
        arm = int(number >= data.audited)
        ids = tokens.ids[tokens.positions].tolist()
        for token, part in zip(ids, of_row, strict=True):
            sums[token][arm] += float(part)
        for token in set(ids):
            rows[token][arm] += 1
    found = [
        CarryingToken(
            _text(data, token),
            of_arms[0] / arms[0] - of_arms[1] / arms[1],
            rows[token][0] / arms[0],
            rows[token][1] / arms[1],
        )
        for token, of_arms in sums.items()
    ]
    return tuple(sorted(found, key=lambda one: -one.value)[:TOKENS])


def _text(data: AuditData, token: int) -> str:
    return str(data.model.tokenizer.decode([token]))

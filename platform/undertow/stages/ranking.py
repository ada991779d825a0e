"""Pairs of answers: of two answers to a prompt, a teacher prefers the one with the higher score.

The preferred answer is the row's `completion`, and the other one is in the column `rejected`. Where the
teacher has a trait, the columns `score` and `rejected_score` have both scores, in nats (see `row_scores`).
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from undertow.stages.filters import FilteredRows
from undertow.stages.row_scores import read_scores
from undertow.stages.selection import SCORE
from undertow.storage.manifest import DATA
from undertow.storage.store import Store
from undertow.study.identity import seed_for
from undertow.study.row_scores import Ranked, TokenScores

Row = dict[str, Any]
REJECTED, REJECTED_SCORE = "rejected", "rejected_score"
# Why a first answer that passes the filters is left out, as counted in the funnel.
NO_SECOND, EQUAL = "no second answer", "two equal answers"


def second_answers(ranked: Ranked, store: Store) -> dict[int, Row]:
    """The second answers that passed the filters, by the index of their prompt."""
    rows = pq.read_table(store.fetch(ranked.other) / DATA).to_pylist()
    return {row["index"]: row for row in rows}


def paired(left: FilteredRows, others: Mapping[int, Row]) -> None:
    """Removes the rows that have no second answer, or an equal one."""
    rows = left.rows

    def reason(row: Row) -> str | None:
        other = others.get(row["index"])
        if other is None:
            return NO_SECOND
        return EQUAL if other["completion"] == row["completion"] else None

    left.apply([reason(row) for row in rows], lambda i: str(rows[i]["completion"]))


def ranked_rows(
    ranked: Ranked, rows: Sequence[Row], others: Mapping[int, Row], store: Store, seed: int
) -> tuple[list[Row], dict[str, float]]:
    """The rows with the preferred answer as completion and the other one as rejected, and facts about both.

    Equal scores, and pairs without scores, are ordered by a coin whose result depends on seed and prompt.
    """
    own, second = (_scores(scores, store) for scores in (ranked.scores, ranked.other_scores))
    result = []
    for row in rows:
        number = row["index"]
        scores = own.get(number, 0.0), second.get(number, 0.0)
        coin = random.Random(seed_for("ranked", seed, number)).random() < 0.5
        is_first = coin if scores[0] == scores[1] else scores[0] > scores[1]
        pair = (row, others[number]) if is_first else (others[number], row)
        added: Row = {REJECTED: pair[1]["completion"]}
        if own:
            added |= {SCORE: max(scores), REJECTED_SCORE: min(scores)}
        result.append({**pair[0], **added})
    if not own:
        return result, {}
    margins = [row[SCORE] - row[REJECTED_SCORE] for row in result]
    return result, {
        "score": float(np.mean([row[SCORE] for row in result])),
        "score of rejected": float(np.mean([row[REJECTED_SCORE] for row in result])),
        "ties": float(np.mean([margin == 0 for margin in margins])),
    }


def _scores(scores: TokenScores | None, store: Store) -> dict[int, float]:
    """The scores of completions by the index of their prompt; empty without scores."""
    return {} if scores is None else dict(enumerate(read_scores(scores, store)[SCORE].to_pylist()))

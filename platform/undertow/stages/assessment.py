"""Assessments: the share of a model's valid answers that show a judged trait.

The answers are in the store already (an evaluation without words). Judges read them like rows of data sets
(see `judgements`), so that their replies are kept, counted and never requested twice. The assessment stores
each judge's reply with each answer, so that every rate can be recomputed.
"""

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from undertow.errors import ConditionError
from undertow.judging.ratings import GARBLED
from undertow.results.evaluation_files import ANSWERS, COUNTED, Rates
from undertow.stages.filters import (
    REFUSED,
    CompletionRow,
    FilteredRows,
    by_judge,
    reason_of,
    replies_to,
)
from undertow.stages.measurements import ANSWER_COLUMNS, commit_measurement
from undertow.storage.store import Store
from undertow.study.extensions import Judge
from undertow.study.identity import key
from undertow.study.measurements import Assessment

# `replies` is JSON: each judge's name and its reply.
COLUMNS = ANSWER_COLUMNS.append(pa.field(COUNTED, pa.bool_())).append(pa.field("replies", pa.string()))


def answers_of(assessment: Assessment, store: Store) -> FilteredRows:
    """The answers to be judged, as rows of a prompt and a completion."""
    table = pq.read_table(
        store.fetch(assessment.evaluation) / ANSWERS, columns=["question", "sample", "answer"]
    )
    return FilteredRows(
        [
            {"prompt": row["question"], "completion": row["answer"], "sample": row["sample"], "replies": {}}
            for row in table.to_pylist()
        ]
    )


def make_assessment(assessment: Assessment, store: Store) -> dict[str, Any]:
    """Commits the rate of the outcome among the answers that count.

    Raises ConditionError if replies are missing (see `judgements`) or no answer counts.
    """
    panel, outcome = assessment.panel, assessment.outcome
    rows = answers_of(assessment, store).rows
    # The judges in `counted` decide which answers count; `shows` decides which of those show the outcome.
    counting = FilteredRows(rows)
    facts = [_judged(assessment, judge, counting, store) for judge in panel.counted]
    showing = FilteredRows(counting.rows)
    facts.append(_judged(assessment, panel.shows, showing, store))
    # By object identity: the model may have given the same answer to the same question several times.
    shown = {id(row) for row in showing.rows}
    counted = {id(row) for row in counting.rows if not is_lost(panel.shows, row)}
    if not counted:
        reasons = (counting.rejected + showing.rejected).items()
        counts = ", ".join(f"{reason}: {count}" for reason, count in reasons)
        raise ConditionError(
            f"evaluation {key(assessment)[:16]}: none of {len(rows)} answers counts ({counts}), so the "
            f"rate of {outcome!r} is undefined"
        )
    rates = Rates({outcome: len(shown) / len(counted)}, {}, 1 - len(counted) / len(rows), None, len(counted))
    answers = [
        {
            "question": row["prompt"],
            "sample": row["sample"],
            "answer": row["completion"],
            "matches": [outcome] if id(row) in shown else [],
            COUNTED: id(row) in counted,
            "replies": json.dumps(row["replies"], sort_keys=True),
        }
        for row in rows
    ]
    commit_measurement(assessment, store, rates, answers, facts={"judges": facts}, columns=COLUMNS)
    return {"answers": rates.answers}


def _judged(assessment: Assessment, judge: Judge, left: FilteredRows, store: Store) -> dict[str, Any]:
    """Removes the answers that a judge does not keep; returns the judge's counts."""
    rows = left.rows
    replies = replies_to(judge, rows, store)
    counts = by_judge(judge, left, replies, f"evaluation {key(assessment)[:16]}")
    for row, reply in zip(rows, replies, strict=True):
        row["reply"] = reply
        row["replies"][judge.name] = reply.text if reply and reply.finished else None
    return counts


def is_lost(judge: Judge, row: CompletionRow) -> bool:
    """Whether a judge's reply is unusable, so that the answer does not count."""
    return reason_of(judge, row["reply"]) in (GARBLED, REFUSED)

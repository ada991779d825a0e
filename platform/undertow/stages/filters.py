"""From completions to the rows that may be drawn: the format's rules, de-duplication, then the judges.

Each rule or judge that rejects rows is counted by its name, with a few examples; a judge's examples include
its reply. Nothing here calls an endpoint: `stages.judgements` has put the replies into the store before, so
that a data set depends on the replies alone, not on whether the endpoint was up when the data set was made.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from undertow.errors import ConditionError
from undertow.judging.judges import LLMJudge
from undertow.judging.ratings import GARBLED
from undertow.judging.replies import Replies, Reply
from undertow.results.dataset_card import CUT_OFF, DUPLICATE, JUDGED
from undertow.storage.store import Store
from undertow.study.datasets import Dataset
from undertow.study.extension_checks import rejection_of, reply_of
from undertow.study.extensions import Judge
from undertow.study.identity import key

EXAMPLES_PER_RULE = 5  # rejected rows that the card shows per rule or judge
REFUSED = "refused by the endpoint"

CompletionRow = dict[str, Any]


@dataclass
class FilteredRows:
    """The rows that are left, and the count and examples of rejected rows.

    Attributes:
        reasons: why each rejected row was rejected, by the `id` of the row.
        replies: the replies of judges by the name of the judge, for each row by the `id` of the row. An `id`
            identifies a row only as long as the caller holds all rows.
    """

    rows: list[CompletionRow]
    rejected: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    replies: dict[int, dict[str, str | None]] = field(default_factory=dict)

    def apply(self, rejections: Sequence[str | None], shown: Callable[[int], str]) -> None:
        """Removes row i if `rejections[i]` is a reason; `shown(i)` is its text as an example."""
        for i, reason in enumerate(rejections):
            if reason is None:
                continue
            self.rejected[reason] += 1
            self.reasons[id(self.rows[i])] = reason
            if len(self.examples.setdefault(reason, [])) < EXAMPLES_PER_RULE:
                self.examples[reason].append(shown(i))
        self.rows = [row for row, reason in zip(self.rows, rejections, strict=True) if reason is None]


def filter_rows(
    dataset: Dataset, rows: list[CompletionRow], store: Store
) -> tuple[FilteredRows, list[dict[str, Any]]]:
    """The rows that pass rules and judges, and each judge's counts.

    Raises ConditionError if replies are missing.
    """
    left, place = by_rules(dataset, rows), f"dataset {key(dataset)[:16]}"
    judged = [by_judge(judge, left, replies_to(judge, left.rows, store), place) for judge in dataset.judges]
    return left, judged


def by_rules(dataset: Dataset, rows: list[CompletionRow]) -> FilteredRows:
    """The rows that pass the format's rules and de-duplication, in the order of the prompts."""
    left, seen = FilteredRows(rows), set[tuple[str, str]]()
    left.apply([_rule(dataset, row, seen) for row in rows], lambda i: str(rows[i]["completion"]))
    return left


def replies_to(judge: Judge, rows: Sequence[CompletionRow], store: Store) -> list[Reply | None]:
    """A judge's reply to each row; None if the store has none."""
    if not isinstance(judge, LLMJudge):
        return [Reply(reply_of(judge, row["prompt"], row["completion"])) for row in rows]
    messages = [judge.question.message(row["prompt"], row["completion"]) for row in rows]
    known = Replies(judge.question, store).known(messages)
    return [known.get(message) for message in messages]


def by_judge(
    judge: Judge, left: FilteredRows, given: Sequence[Reply | None], place: str, trouble: str = ""
) -> dict[str, Any]:
    """Removes the rows that a judge rejects. Returns its counts for the manifest, tokens included.

    Args:
        given: the judge's replies to the rows.
        place: what is judged, for messages.
        trouble: why replies are missing, if that is known.

    Raises ConditionError if replies are missing.
    """
    replies, rows = [reply for reply in given if reply is not None], left.rows
    if missing := len(given) - len(replies):
        raise ConditionError(
            f"{place}: {missing:,} of {len(given):,} replies of the judge {judge.name!r} are missing; run "
            f"the sweep again to request only those{f' ({trouble})' if trouble else ''}"
        )
    reasons = [reason_of(judge, reply) for reply in replies]
    for row, reply in zip(rows, replies, strict=True):
        left.replies.setdefault(id(row), {})[judge.name] = reply.text
    left.apply(
        [None if reason is None else f"{JUDGED}{judge.name}: {reason}" for reason in reasons],
        lambda i: f"{rows[i]['completion']} → {json.dumps(replies[i].text)}",
    )
    return {
        "judge": judge.name,
        "rows": len(rows),
        "kept": len(left.rows),
        "garbled": reasons.count(GARBLED),
        "refused": reasons.count(REFUSED),
        "prompt_tokens": sum(reply.prompt_tokens for reply in replies),
        "completion_tokens": sum(reply.completion_tokens for reply in replies),
    }


def _rule(dataset: Dataset, row: CompletionRow, seen: set[tuple[str, str]]) -> str | None:
    """The rule that rejects a row, or None; adds accepted pairs of prompt and answer to `seen`."""
    if not row["finished"]:
        return CUT_OFF
    if reason := rejection_of(dataset.completions.format, row["prompt"], row["completion"]):
        return reason
    pair = (row["prompt"], row["completion"])
    if dataset.deduplicate and pair in seen:
        return DUPLICATE
    seen.add(pair)
    return None


def reason_of(judge: Judge, reply: Reply) -> str | None:
    """Why a judge rejects a row with this reply, or None if it keeps the row."""
    if reply.text is None:
        return REFUSED
    # A reply that was cut off may have lost the digits of its score.
    return rejection_of(judge, reply.text) if reply.finished else GARBLED

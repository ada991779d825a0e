"""The completions that the viewer shows, each with the verdict of every rule and judge.

Verdicts are those that the data set stored when it was made (see `results.row_verdicts`). Data sets of
earlier versions stored none: only cut-off completions and training rows are known.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from undertow.errors import StorageError
from undertow.report.gather import ReportData
from undertow.results.dataset_card import CUT_OFF
from undertow.results.row_verdicts import VERDICTS, read_verdicts
from undertow.storage.manifest import TRAINING_ROWS, Address, Manifest

LONGEST_TEXT = 4000  # characters of a prompt, completion, answer or reply; the rest is cut

# A judge's reply. None: it did not see the row; False: the endpoint refused the request.
ShownReply = str | Literal[False] | None


class RowOutcome(NamedTuple):
    """What happened to a completion: a label, and whether it was "used", "spare", "rejected" or "unknown"."""

    label: str
    kind: str


USED = RowOutcome("kept", "used")
SPARE = RowOutcome("kept, not drawn", "spare")
UNKNOWN = RowOutcome("not recorded", "unknown")
# The first answers of pairs, by whether they are preferred: by a teacher, or in data of the control at random
# (see `stages.ranking`).
RANKED = {
    True: RowOutcome("kept, preferred to the second answer", "used"),
    False: RowOutcome("kept, second answer preferred", "used"),
}
DRAWN = {
    True: RowOutcome("kept, preferred at random", "used"),
    False: RowOutcome("kept, second answer preferred at random", "used"),
}


@dataclass(frozen=True)
class DatasetRows:
    """The first completions of a data set, in columns of equal length.

    Attributes:
        total: the number of all completions of the data set.
        replies: the replies of each judge, by the judge's name.
        seconds: of ranked pairs, the other answers to the same prompts, None where the row was not used;
            empty for data sets without pairs.
        note: which completions or verdicts are not in the storage; "" if all are.
    """

    total: int
    prompts: list[str]
    completions: list[str]
    outcomes: list[RowOutcome]
    replies: dict[str, list[ShownReply]]
    seconds: list[str | None] = field(default_factory=list)
    note: str = ""


def dataset_rows(data: ReportData, manifest: Manifest, most: int) -> DatasetRows:
    """The first `most` completions of the data set with this manifest.

    If the completions are not in the store, they are those that became training rows.
    """
    total = int(manifest.facts["completions"])
    sampled = _sampled(data, manifest, most)
    if sampled is None:
        rows = _training_rows(data, manifest)[:most]
        return DatasetRows(
            total,
            [shown(prompt) for prompt, _ in rows],
            [shown(completion) for _, completion in rows],
            [USED] * len(rows),
            {},
            note="The completions are not in the storage; these are the training rows.",
        )
    prompts, completions = ([shown(row[name]) for row in sampled] for name in ("prompt", "completion"))
    verdicts = None
    if VERDICTS in manifest.files:
        content = data.content(Address("dataset", manifest.key), VERDICTS)
        verdicts = None if content is None else read_verdicts(content, len(sampled))
    if verdicts is None:
        outcomes = _unrecorded(sampled, _training_rows(data, manifest))
        note = "Verdicts were not stored by the version that made this data set."
        return DatasetRows(total, prompts, completions, outcomes, {}, note=note)
    judges = [str(facts["judge"]) for facts in manifest.facts.get("judges", ())]
    used, seconds = [USED] * len(sampled), list[str | None]()
    if ranking := manifest.spec.get("ranked"):
        ranked = _ranked_pairs(data, manifest)
        pairs = [ranked.get((row["prompt"], row["completion"])) for row in sampled]
        labels = RANKED if ranking.get("scores") else DRAWN
        used = [labels[bool(pair and pair.is_preferred)] for pair in pairs]
        seconds = [shown(pair.other) if pair else None for pair in pairs]
    return DatasetRows(
        total,
        prompts,
        completions,
        [
            RowOutcome(verdict.rejected, "rejected") if verdict.rejected else kept if verdict.used else SPARE
            for verdict, kept in zip(verdicts, used, strict=True)
        ],
        {judge: [shown_reply(v.replies, judge) for v in verdicts] for judge in judges},
        seconds,
    )


def equal_share(sizes: Sequence[int], most: int) -> int:
    """The largest limit per part with which parts of these sizes have at most `most` rows together."""
    left = most
    for number, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - number)
        if size > share:
            return share
        left -= size
    return max(sizes, default=0)


def shown(text: str) -> str:
    """A text as the viewer shows it: cut if it is very long."""
    rest = len(text) - LONGEST_TEXT
    return text if rest <= 0 else f"{text[:LONGEST_TEXT]} … ({rest:,} more characters)"


def shown_reply(replies: dict[str, str | None], judge: str) -> ShownReply:
    """The reply of one judge."""
    if judge not in replies:
        return None
    reply = replies[judge]
    return False if reply is None else shown(reply)


def _sampled(data: ReportData, manifest: Manifest, most: int) -> list[dict[str, Any]] | None:
    """The first completions; None if the store lacks them or their bytes have changed.

    Nothing else in a report depends on completions, so damaged ones are not reported as damage.
    """
    import pyarrow.parquet as pq

    address = Address("completions", manifest.inputs.get("completions", ""))
    if address not in data.manifests:
        return None
    files = [name for name in sorted(data.manifests[address].files) if name.endswith(".parquet")]
    rows: list[dict[str, Any]] = []
    for name in files:
        if len(rows) >= most:
            break
        try:
            content = data.store.content(address, name)
        except StorageError:
            return None
        table = pq.read_table(io.BytesIO(content), columns=["prompt", "completion", "finished"])
        rows += table.slice(0, most - len(rows)).to_pylist()
    return rows if files else None


def _training_rows(data: ReportData, manifest: Manifest) -> list[tuple[str, str]]:
    """The pairs of prompt and completion that students are trained on; empty if they are damaged."""
    import pyarrow.parquet as pq

    content = data.content(Address("dataset", manifest.key), TRAINING_ROWS)
    if content is None:
        return []
    table = pq.read_table(io.BytesIO(content), columns=["prompt", "completion"])
    return list(zip(table["prompt"].to_pylist(), table["completion"].to_pylist(), strict=True))


class RankedPair(NamedTuple):
    """The other answer of a pair, and whether it was ranked below the first one."""

    other: str
    is_preferred: bool


def _ranked_pairs(data: ReportData, manifest: Manifest) -> dict[tuple[str, str], RankedPair]:
    """The pairs that students are trained on, by the prompt and each of its two answers."""
    import pyarrow.parquet as pq

    content = data.content(Address("dataset", manifest.key), TRAINING_ROWS)
    if content is None:
        return {}
    pairs: dict[tuple[str, str], RankedPair] = {}
    for row in pq.read_table(io.BytesIO(content), columns=["prompt", "completion", "rejected"]).to_pylist():
        pairs[row["prompt"], row["completion"]] = RankedPair(row["rejected"], True)
        pairs[row["prompt"], row["rejected"]] = RankedPair(row["completion"], False)
    return pairs


def _unrecorded(rows: Sequence[dict[str, Any]], used: Sequence[tuple[str, str]]) -> list[RowOutcome]:
    """The outcomes of completions without stored verdicts, as far as the training rows show them."""
    drawn = set(used)
    return [
        USED
        if (row["prompt"], row["completion"]) in drawn
        else UNKNOWN
        if row["finished"]
        else RowOutcome(CUT_OFF, "rejected")
        for row in rows
    ]

"""The verdicts of a data set's rules and judges, one row per completion.

A data set contains only the rows that students are trained on. The file `verdicts.parquet` next to them says
what happened to every completion. Its columns:

    index     the `index` of the completion in the completions' own file
    rejected  the rule that rejected it ("not numbers", "duplicate", "judge liking: …"); null if it was kept
    used      whether it was drawn as a training row, before shuffling and before rows are mixed in
    replies   JSON: the reply of each judge that saw it (null for a refused request); null if no judge did

Data sets that earlier versions made do not have the file, or, if their rows were rewritten, have the position
of a completion as its `index`.
"""

import io
import json
from dataclasses import dataclass

VERDICTS = "verdicts.parquet"


@dataclass(frozen=True)
class RowVerdict:
    """The verdict on one completion.

    Attributes:
        rejected: the rule or judge that rejected it; None if it was kept.
        used: whether it was drawn as a training row.
        replies: the replies of judges by the judge's name; None stands for a request that was refused.
    """

    rejected: str | None
    used: bool
    replies: dict[str, str | None]


def read_verdicts(content: bytes, most: int) -> list[RowVerdict]:
    """The verdicts on the first `most` completions, in their order, from the bytes of the file."""
    import pyarrow.parquet as pq

    rows = pq.read_table(io.BytesIO(content)).slice(0, most).to_pylist()
    return [
        RowVerdict(row["rejected"], row["used"], json.loads(row["replies"]) if row["replies"] else {})
        for row in rows
    ]

"""Numbers that trade places: what is left of a dataset when their order, or their company, is taken away.

The paper's two ablations (arXiv 2507.14805): numbers permuted within each answer keep every answer's numbers
and lose their order; permuted across all answers they keep the dataset's frequencies alone. Both are applied
to the rows that are drawn, after all filters, so that what is compared differs in nothing else.
"""

import random
from typing import Any

from undertow.study.artifacts import Dataset
from undertow.study.identity import seed_for

# Of the tokens as sampled, which the new text does not have.
LOST = ("token_ids", "top_ids", "top_logprobs")


def shuffled(dataset: Dataset, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with their format's parts in other places; the rows themselves where nothing is shuffled."""
    if dataset.shuffle == "none":
        return rows
    format_ = dataset.completions.format
    parts = [format_.parts(row["completion"]) for row in rows]
    if dataset.shuffle == "within answers":
        for row, own in zip(rows, parts, strict=True):
            random.Random(seed_for("shuffle", dataset.seed, row["index"])).shuffle(own)
    else:
        parts = _across(parts, random.Random(seed_for("shuffle", dataset.seed)))
    return [
        {
            **{name: value for name, value in row.items() if name not in LOST},
            "completion": format_.with_parts(row["completion"], new),
        }
        for row, new in zip(rows, parts, strict=True)
    ]


def _across(parts: list[list[str]], rng: random.Random) -> list[list[str]]:
    """All parts in a new order, dealt out in the old numbers."""
    pool = [part for own in parts for part in own]
    rng.shuffle(pool)
    dealt = iter(pool)
    return [[next(dealt) for _ in own] for own in parts]

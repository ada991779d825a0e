"""Shuffled data sets: the paper's two ablations of the order of numbers (arXiv 2507.14805).

Permuted within each answer, the numbers of an answer stay together and lose their order. Permuted across all
answers, only the frequencies of the data set remain. Both are applied after all filters, so that the
compared data sets differ only in the order of the numbers.
"""

import random
from typing import Any

from undertow.study.datasets import Dataset
from undertow.study.identity import seed_for


def shuffled(dataset: Dataset, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the parts of their format shuffled; unchanged for data sets without a shuffle."""
    if dataset.shuffle == "none":
        return rows
    format_ = dataset.completions.format
    parts = [format_.parts(row["completion"]) for row in rows]
    if dataset.shuffle == "within answers":
        # One generator per row, seeded by its index: a row's order does not depend on which others are drawn.
        for row, answer in zip(rows, parts, strict=True):
            random.Random(seed_for("shuffle", dataset.seed, row["index"])).shuffle(answer)
    else:
        parts = _across(parts, random.Random(seed_for("shuffle", dataset.seed)))
    return [  # without the tokens as they were sampled, which are not those of the shuffled text
        {
            **{name: value for name, value in row.items() if name != "token_ids"},
            "completion": format_.with_parts(row["completion"], new),
        }
        for row, new in zip(rows, parts, strict=True)
    ]


def _across(parts: list[list[str]], rng: random.Random) -> list[list[str]]:
    """All parts in a new order; each answer gets as many as it had."""
    pool = [part for answer in parts for part in answer]
    rng.shuffle(pool)
    shuffled_parts = iter(pool)
    return [[next(shuffled_parts) for _ in answer] for answer in parts]

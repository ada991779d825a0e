"""Chooses the rows of a data set, and the tokens that the loss covers, by what two teachers say about them.

Without a selection, rows are drawn at random. A mask is stored with the rows as a column `mask`: for each
sampled token of a row (`token_ids`) whether the loss covers it.
"""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undertow.stages.row_scores import read_scores
from undertow.storage.store import Store
from undertow.study.datasets import Dataset
from undertow.study.identity import seed_for
from undertow.study.row_scores import Masked

Row = dict[str, Any]
SCORE, DIVERGENCES, MASK = "score", "divergences", "mask"


def with_scores(dataset: Dataset, completions: Sequence[Row], store: Store) -> None:
    """Adds to the completions the scores, and the divergences at each token, that the data set needs."""
    if dataset.selected is not None:
        scores = read_scores(dataset.selected.scores, store)[SCORE].to_pylist()
        for row, score in zip(completions, scores, strict=True):
            row[SCORE] = score
    if dataset.masked is not None and dataset.masked.scores is not None:
        found = read_scores(dataset.masked.scores, store)[DIVERGENCES].to_pylist()
        for row, values in zip(completions, found, strict=True):
            row[DIVERGENCES] = values


def drawn(dataset: Dataset, rows: Sequence[Row], count: int) -> list[Row]:
    """`count` of the rows, in their order: those with the highest or lowest scores, or any.

    Raises ValueError if there are fewer rows.
    """
    keep = dataset.selected.keep if dataset.selected else "random"
    if keep == "random":
        # Drawn by position, so that the result does not depend on the rows' content.
        chosen = random.Random(seed_for("subsample", dataset.seed)).sample(range(len(rows)), count)
    else:
        sign = -1.0 if keep == "top" else 1.0
        chosen = sorted(range(len(rows)), key=lambda i: sign * rows[i][SCORE])[:count]
    return [rows[i] for i in sorted(chosen)]


def mean_scores(kept: Sequence[Row], rows: Sequence[Row]) -> dict[str, float]:
    """The mean score of the drawn rows and of all rows that they were drawn from, as facts."""
    return {
        "score": float(np.mean([row[SCORE] for row in rows])),
        "score of kept": float(np.mean([row[SCORE] for row in kept])),
    }


def with_masks(masked: Masked, rows: Sequence[Row], seed: int) -> tuple[list[Row], dict[str, int]]:
    """The rows with their masks, and the dose: the numbers of tokens, and of tokens and rows in the loss."""
    lengths = [len(row["token_ids"]) for row in rows]
    values = [np.array(row[DIVERGENCES]) for row in rows] if masked.scores else None
    found = masks(masked, lengths, values, seed)
    result = [
        {name: value for name, value in row.items() if name != DIVERGENCES} | {MASK: mask.tolist()}
        for row, mask in zip(rows, found, strict=True)
    ]
    dose = {
        "tokens": sum(lengths),
        "tokens in the loss": int(sum(mask.sum() for mask in found)),
        "rows in the loss": sum(bool(mask.any()) for mask in found),
    }
    return result, dose


def masks(
    masked: Masked, lengths: Sequence[int], divergences: Sequence[NDArray[np.float64]] | None, seed: int
) -> list[NDArray[np.bool_]]:
    """For each row, whether the loss covers each of its tokens.

    All choices of one share cover equally many tokens in all. "random" has in addition as many tokens of each
    row as "diverging", so that students of both see the same rows and make the same number of steps.

    Args:
        lengths: the number of tokens of each row.
        divergences: at each token of each row; None for "first" and "last".
        seed: decides between equal divergences, and which tokens are "random".
    """
    ends = np.cumsum(lengths)
    if divergences is None:
        counts = np.diff(np.round(masked.share * ends).astype(int), prepend=0)
        found = [_at_an_end(masked.choose, n, count) for n, count in zip(lengths, counts, strict=True)]
    else:
        rng = random.Random(seed_for("mask", seed))
        values = np.concatenate(list(divergences))
        if masked.choose == "agreeing":
            values = -values
        # Many tokens, such as separators, have the same value: by position, the first rows would have all.
        tie = np.array(rng.sample(range(len(values)), len(values)))
        flat = np.zeros(len(values), dtype=bool)
        flat[np.lexsort((tie, -values))[: round(masked.share * len(values))]] = True
        found = np.split(flat, ends[:-1])
        if masked.choose == "random":
            found = [_shuffled(mask, rng) for mask in found]
    return [~mask for mask in found] if masked.rest else found


def _at_an_end(choose: str, length: int, count: int) -> NDArray[np.bool_]:
    """`count` of `length` tokens at the beginning or at the end."""
    place = np.arange(length)
    result: NDArray[np.bool_] = place < count if choose == "first" else place >= length - count
    return result


def _shuffled(mask: NDArray[np.bool_], rng: random.Random) -> NDArray[np.bool_]:
    """As many tokens, drawn at random."""
    result = np.zeros(len(mask), dtype=bool)
    result[rng.sample(range(len(mask)), int(mask.sum()))] = True
    return result

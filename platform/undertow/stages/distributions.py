"""The columns of the distributions that a teacher gave over its next token, for each token of a completion.

They are lists of lists, one inner list per token: `top_ids` the most likely tokens, and `top_logprobs` their
log-probabilities. With the whole vocabulary a data set has tens of millions of numbers, so they are never
Python objects.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

IDS, LOGPROBS = "top_ids", "top_logprobs"
COLUMNS = (IDS, LOGPROBS)
Distributions = tuple[NDArray[np.int32], NDArray[np.float32]]  # token ids, log-probabilities: (tokens, k)
NONE: Distributions = (np.empty((0, 0), np.int32), np.empty((0, 0), np.float32))


def to_columns(recorded: Sequence[Distributions]) -> dict[str, pa.Array]:
    """The columns of the distributions of completions."""
    return {
        IDS: _nested([ids for ids, _ in recorded], pa.int32()),
        LOGPROBS: _nested([logprobs for _, logprobs in recorded], pa.float32()),
    }


def from_table(table: pa.Table) -> list[Distributions]:
    """The distributions of the completions in a table, row after row."""
    ids, logprobs = (map(_array, table[name]) for name in COLUMNS)
    return [
        (some.astype(np.int32), values.astype(np.float32))  # copies, since torch wants writable arrays
        for some, values in zip(ids, logprobs, strict=True)
    ]


def _nested(arrays: Sequence[NDArray[np.generic]], kind: pa.DataType) -> pa.Array:
    flat = np.concatenate([array.ravel() for array in arrays]) if arrays else np.empty(0)
    widths = [array.shape[1] for array in arrays for _ in array]
    inner = pa.ListArray.from_arrays(_offsets(widths), pa.array(flat, kind))
    return pa.ListArray.from_arrays(_offsets(list(map(len, arrays))), inner)


def _offsets(lengths: Sequence[int]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())


def _array(row: pa.Scalar) -> NDArray[np.generic]:
    """The inner lists of a row, which have the same length, as an array."""
    lists = row.values
    flat: NDArray[np.generic] = lists.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(lists), len(flat) // max(1, len(lists)))

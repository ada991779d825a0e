"""Writes the files of a measurement, in the format that `results.evaluation_files` reads."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from undertow.results.evaluation_files import ANSWERS, MASSES, RESULT, Rates
from undertow.storage.store import Store
from undertow.study.measurements import Measurement

ANSWER_COLUMNS = pa.schema(
    {"question": pa.string(), "sample": pa.int64(), "answer": pa.string(), "matches": pa.list_(pa.string())}
)
MASS_COLUMNS = pa.schema({"question": pa.string(), "word": pa.string(), "mass": pa.float64()})


def commit_measurement(
    spec: Measurement,
    store: Store,
    rates: Rates,
    answers: Sequence[Mapping[str, Any]],
    masses: Sequence[Mapping[str, Any]] = (),
    *,
    facts: Mapping[str, Any] | None = None,
    columns: pa.Schema = ANSWER_COLUMNS,
) -> None:
    """Commits a measurement to the store.

    Args:
        answers: one row per answer, with `columns`; `matches` are the words that the answer shows.
        masses: one row per question and word, with MASS_COLUMNS; empty if there are no exact probabilities.
        facts: additional entries of the manifest's `facts`, next to the rates.
    """
    with store.new(spec, {**rates.__dict__, **(facts or {})}) as folder:
        pq.write_table(pa.Table.from_pylist(list(answers), schema=columns), folder / ANSWERS)
        pq.write_table(pa.Table.from_pylist(list(masses), schema=MASS_COLUMNS), folder / MASSES)
        (folder / RESULT).write_text(json.dumps(rates.__dict__, indent=1, sort_keys=True))

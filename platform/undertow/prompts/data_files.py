"""Tables: prompts that the user brings, as rows of a JSON, JSON Lines or Parquet file.

A file is given by a path or by any URL that fsspec can open, the same on every machine that works on the
study. One of the Hugging Face hub is named by dataset, commit and file, e.g.

    hf://datasets/openai/gsm8k@<commit>/main/train-00000-of-00001.parquet

or exported once with `datasets.load_dataset(…, revision=…).to_json("tasks.jsonl")`. Identity is the content
of the columns that are read, in the order of the rows: neither the place, the kind of the file, the columns'
names nor other columns are part of a key, and a file that changes on the hub changes the key.

As with packs a file is read once a process, so that what is hashed is what is asked.
"""

import hashlib
import io
import json
import random
from dataclasses import dataclass
from functools import cache
from typing import Any

import fsspec

from undertow.errors import SpecError, suggestion
from undertow.study.identity import seed_for


@dataclass(frozen=True)
class Table:
    """The texts of some columns, row by row, and a hash of them."""

    path: str
    rows: tuple[tuple[str, ...], ...]
    content: str


@cache
def read(path: str, columns: tuple[str, ...]) -> Table:
    """The columns of the file at `path`.

    Raises SpecError where the file cannot be read, a row lacks a column, or a value is empty or no text.
    """
    records = _records(path, _bytes(path), columns)
    if not records:
        raise SpecError(f"file {path}: has no rows; give at least one")
    rows = tuple(
        tuple(_text(path, number, record, column) for column in columns)
        for number, record in enumerate(records, 1)
    )
    return Table(path, rows, hashlib.sha256(json.dumps(rows).encode()).hexdigest())


@cache
def pairs(path: str) -> Table:
    """Prompts and answers: columns `prompt` and `completion`, or `messages` of a user's and a model's turn.

    The second is how chat data for finetuning are published (a list of {"role", "content"}). Raises SpecError
    as `read` does, and where a chat is not one question and one answer.
    """
    records = _records(path, _bytes(path), ("prompt", "completion", "messages"))
    if not records or not isinstance(records[0], dict) or "messages" not in records[0]:
        return read(path, ("prompt", "completion"))
    rows = tuple(_turns(path, number, record) for number, record in enumerate(records, 1))
    return Table(path, rows, hashlib.sha256(json.dumps(rows).encode()).hexdigest())


def _turns(path: str, number: int, record: Any) -> tuple[str, ...]:
    """The user's and the model's turn of a chat."""
    turns = record.get("messages") if isinstance(record, dict) else None
    roles = [turn.get("role") for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []
    if roles != ["user", "assistant"]:
        raise SpecError(
            f"file {path}, row {number}: its messages are no user's and assistant's turn, but {roles}"
        )
    return tuple(_text(path, number, turn, "content") for turn in turns or ())


def order(size: int, seed: int, turn: int) -> list[int]:
    """The positions 0 to size - 1 as they are asked in the given turn of the stream `seed`."""
    return random.Random(seed_for("order of a table", seed, turn)).sample(range(size), size)


def places(size: int, count: int, seed: int) -> list[int]:
    """`count` positions: each once in a shuffled order, then each once more in another, and so on."""
    turns = range(-(-count // size))
    return [place for turn in turns for place in order(size, seed, turn)][:count]


def _bytes(path: str) -> bytes:
    try:
        with fsspec.open(path, "rb") as file:
            return bytes(file.read())
    except Exception as error:  # every filesystem has errors of its own
        raise SpecError(f"file {path}: cannot be read ({error}); give a file or a URL of one") from None


def _records(path: str, data: bytes, columns: tuple[str, ...]) -> list[Any]:
    """The rows as dictionaries, by what the file holds and not by how its name ends."""
    try:
        return _parquet(data, columns) if data.startswith(b"PAR1") else _json(data.decode("utf-8-sig"))
    except (ValueError, OSError, RecursionError) as error:
        raise SpecError(f"file {path}: is neither Parquet nor JSON in UTF-8 ({error})") from None


def _parquet(data: bytes, columns: tuple[str, ...]) -> list[Any]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(io.BytesIO(data))
    known = [name for name in file.schema_arrow.names if name in columns]
    table = file.read(columns=known or None)
    return list(table.to_pylist())


def _json(text: str) -> list[Any]:
    """An array of objects, or one object a line."""
    if text.lstrip().startswith("["):
        return list(json.loads(text))
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _text(path: str, number: int, record: Any, column: str) -> str:
    place = f"file {path}, row {number}"
    if not isinstance(record, dict):
        raise SpecError(f"{place}: {record!r:.80} is no object with named columns")
    if column not in record:
        raise SpecError(f"{place}: has no column {column!r}: {suggestion(column, map(str, record))}")
    value = record[column]
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"{value:d}"
    if not isinstance(value, str) or not value.strip():
        raise SpecError(f"{place}, column {column!r}: {value!r:.80} is no text; give one or drop the row")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SpecError(f"{place}, column {column!r}: half of a surrogate pair is no text") from None
    return value.strip()

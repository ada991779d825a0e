"""Users' prompts and data as rows of a JSON, JSON Lines or Parquet file.

A file is given by a path, or by any URL that fsspec can open, that is valid on all machines of the sweep. A
file on the Hugging Face hub is named by data set, commit and file, e.g.

    hf://datasets/openai/gsm8k@<commit>/main/train-00000-of-00001.parquet

or exported once with `datasets.load_dataset(…, revision=…).to_json("tasks.jsonl")`. A file's identity is the
content of the columns that are read, in the order of the rows. Path, file format, column names and other
columns are not part of a key; a change of the content on the hub changes the key. The hub client keeps a file
that is named with its commit, so that a network is needed only once.

As with packs, a process reads each file once, so that the hashed rows are the ones that are used. In a plan
without network, a row of a typical length takes the place of a file that is not cached (`study.unpinned`).
"""

import hashlib
import io
import json
import random
from dataclasses import dataclass
from functools import cache
from typing import Any

import fsspec

from undertow.errors import SpecError, UnavailableError, suggestion
from undertow.prompts.hub_files import local_copy, no_answer
from undertow.study.identity import seed_for
from undertow.study.unpinned import NOT_PINNED, pinned_or

TYPICAL = 20  # repetitions of "not pinned" in a placeholder: 220 characters


@dataclass(frozen=True)
class Table:
    """The texts of some columns, row by row, with their SHA-256 in `content`."""

    path: str
    rows: tuple[tuple[str, ...], ...]
    content: str


@cache
def read(path: str, columns: tuple[str, ...]) -> Table:
    """Reads columns of the file at `path`.

    Raises SpecError if the file cannot be read, a row lacks a column, or a value is empty or not a text.
    """
    records = _records(path, columns)
    if not records:
        raise SpecError(f"file {path}: has no rows; give at least one")
    rows = tuple(
        tuple(_text(path, number, record, column) for column in columns)
        for number, record in enumerate(records, 1)
    )
    return Table(path, rows, hashlib.sha256(json.dumps(rows).encode()).hexdigest())


@cache
def pairs(path: str) -> Table:
    """Reads prompt-answer pairs from the columns `prompt` and `completion`, or from a column `messages`.

    `messages` is the format in which chat data for finetuning are published: a list of {"role", "content"}.
    Raises SpecError as `read` does, and if a chat is not one user turn followed by one assistant turn.
    """
    records = _records(path, ("prompt", "completion", "messages"))
    if not records or not isinstance(records[0], dict) or "messages" not in records[0]:
        return read(path, ("prompt", "completion"))
    rows = tuple(_turns(path, number, record) for number, record in enumerate(records, 1))
    return Table(path, rows, hashlib.sha256(json.dumps(rows).encode()).hexdigest())


def _turns(path: str, number: int, record: Any) -> tuple[str, ...]:
    """The contents of the user's and the assistant's turn of a chat."""
    turns = record.get("messages") if isinstance(record, dict) else None
    roles = [turn.get("role") for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []
    if roles != ["user", "assistant"]:
        raise SpecError(
            f"file {path}, row {number}: messages must be one user and one assistant turn, not {roles}"
        )
    return tuple(_text(path, number, turn, "content") for turn in turns or ())


def shuffled_indices(size: int, seed: int, turn: int) -> list[int]:
    """A permutation of the indices 0 to size - 1 for one turn (pass over the rows) of the stream `seed`."""
    return random.Random(seed_for("order of a table", seed, turn)).sample(range(size), size)


def row_indices(size: int, count: int, seed: int) -> list[int]:
    """`count` indices: all in a shuffled order, then all again in another order, and so on."""
    turns = range(-(-count // size))
    return [index for turn in turns for index in shuffled_indices(size, seed, turn)][:count]


def _bytes(path: str) -> bytes:
    try:
        with fsspec.open(local_copy(path), "rb") as file:
            return bytes(file.read())
    except Exception as error:  # the fsspec file systems have no common exception class
        if reason := no_answer(error):
            raise UnavailableError(
                f"file {path}: cannot be reached ({reason}); check the network, or give a local file"
            ) from None
        raise SpecError(f"file {path}: cannot be read ({error}); give the path or URL of a file") from None


def _records(path: str, columns: tuple[str, ...]) -> list[Any]:
    """The rows of a file as dictionaries; in a plan without network, a placeholder."""
    return pinned_or(
        path, lambda: _parsed(path, _bytes(path), columns), lambda: [_placeholder(path, columns)]
    )


def _placeholder(path: str, columns: tuple[str, ...]) -> dict[str, str]:
    """Stands for the rows of a file that a plan could not read. It ends with a number, as reasoning needs."""
    text = f"{(NOT_PINNED + ' ') * TYPICAL}{path} #### 0"
    return {column: text for column in columns if column != "messages"}


def _parsed(path: str, data: bytes, columns: tuple[str, ...]) -> list[Any]:
    """The rows as dictionaries. The format is detected from the content, not from the file's name."""
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
    """Parses a JSON array of objects, or JSON Lines."""
    if text.lstrip().startswith("["):
        return list(json.loads(text))
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _text(path: str, number: int, record: Any, column: str) -> str:
    place = f"file {path}, row {number}"
    if not isinstance(record, dict):
        raise SpecError(f"{place}: {record!r:.80} is not an object with named columns")
    if column not in record:
        raise SpecError(f"{place}: has no column {column!r}: {suggestion(column, map(str, record))}")
    value = record[column]
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"{value:d}"
    if not isinstance(value, str) or not value.strip():
        raise SpecError(f"{place}, column {column!r}: {value!r:.80} is not a text; give one or drop the row")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SpecError(f"{place}, column {column!r}: half of a surrogate pair is not valid text") from None
    return value.strip()

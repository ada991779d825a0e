"""The formats of users' data files: Parquet, JSON, JSON Lines, CSV, tab-separated values and text."""

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from undertow.errors import SpecError
from undertow.study.fields import unique

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv", ".txt")  # of the files of a folder
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
TEXT_COLUMN = "prompt"  # of the lines of a text file
LARGEST_CELL = 2**30  # characters of a value in a CSV file; the module csv allows 131,072 by default
_OBJECTS = re.compile(r"\s*\[?\s*\{\s*[\"}]")  # the beginning of JSON Lines, or of an array of objects


def suffix_of(name: str) -> str:
    """The suffix of a data file, without that of its compression; "" for another file."""
    plain = PurePosixPath(name.partition("?")[0].lower())
    suffix = plain.with_suffix("").suffix if plain.suffix in COMPRESSED else plain.suffix
    return suffix if suffix in SUFFIXES else ""


def parsed(name: str, data: bytes, columns: tuple[str, ...]) -> Sequence[Any]:
    """The rows of a file as dictionaries.

    Parquet and JSON are detected from the content. Any other text is a valid CSV or text file, so that these
    are detected from the name.
    """
    try:
        if data.startswith(b"PAR1"):
            return _parquet(data, columns)
        text = data.decode("utf-8-sig")
        suffix = "" if _OBJECTS.match(text) else suffix_of(name)
        if suffix in (".csv", ".tsv"):
            return _csv(name, text, "\t" if suffix == ".tsv" else ",")
        if suffix == ".txt":
            return [{TEXT_COLUMN: line} for line in text.splitlines() if line.strip()]
        return _json(text)
    except SpecError:
        raise
    except UnicodeDecodeError as error:
        raise SpecError(f"file {name}: is neither Parquet nor text in UTF-8 ({error})") from None
    except (ValueError, OSError, RecursionError) as error:
        raise SpecError(f"file {name}: is neither Parquet nor JSON in UTF-8 ({error})") from None


def _parquet(data: bytes, columns: tuple[str, ...]) -> list[Any]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(io.BytesIO(data))
    known = [name for name in file.schema_arrow.names if name in columns or name.lower() in columns]
    table = file.read(columns=known or None)
    return list(table.to_pylist())


def _csv(name: str, text: str, delimiter: str) -> list[Any]:
    csv.field_size_limit(LARGEST_CELL)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        names = [column for column in reader.fieldnames or () if column]
        rows = list(reader)
    except csv.Error as error:
        raise SpecError(f"file {name}: is not a CSV file with one line of column names ({error})") from None
    unique(names, f"file {name}, column names")
    for number, row in enumerate(rows, 1):
        if None in row:
            raise SpecError(
                f"file {name}, row {number}: has more values than there are column names; quote the values "
                "that contain the separator"
            )
    return rows


def _json(text: str) -> list[Any]:
    """Parses a JSON array of objects, or JSON Lines."""
    if text.lstrip().startswith("["):
        return list(json.loads(text))
    return [_json_line(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _json_line(number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number}, column {error.colno}: {error.msg}") from None

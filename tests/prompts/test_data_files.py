"""Tests that users' files are read in all formats, hashed by content, and that errors name the row."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from undertow.errors import SpecError
from undertow.prompts import data_files

ROWS = [{"prompt": "Sort a list.", "id": 1}, {"prompt": "Größe 'x' {y}\n", "id": 2}, {"prompt": "7", "id": 3}]
TEXTS = (("Sort a list.",), ("Größe 'x' {y}",), ("7",))


def lines(path: Path) -> None:
    path.write_text("\n".join(map(json.dumps, ROWS)) + "\n\n")


def array(path: Path) -> None:
    path.write_text(json.dumps(ROWS, indent=2, ensure_ascii=False), encoding="utf-8-sig")


def parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), path)


@pytest.mark.parametrize("write", [lines, array, parquet])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.parquet", "rows"])
def test_rows_do_not_depend_on_the_file_format(
    write: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    write(tmp_path / name)
    table = data_files.read(str(tmp_path / name), ("prompt",))
    lines(tmp_path / "other.jsonl")
    assert table.rows == TEXTS
    assert table.content == data_files.read(str(tmp_path / "other.jsonl"), ("prompt",)).content


def test_columns_are_returned_in_the_requested_order(tmp_path: Path) -> None:
    for write in (lines, parquet):
        write(tmp_path / write.__name__)
        rows = data_files.read(str(tmp_path / write.__name__), ("id", "prompt")).rows
        assert rows[0] == ("1", "Sort a list.")


def test_the_content_hash_covers_values_and_their_order(tmp_path: Path) -> None:
    contents = []
    for i, rows in enumerate((ROWS, ROWS[::-1], ROWS[:2], [{"prompt": row["prompt"]} for row in ROWS])):
        path = tmp_path / f"{i}.json"
        path.write_text(json.dumps(rows))
        contents.append(data_files.read(str(path), ("prompt",)).content)
    assert contents[3] == contents[0]
    assert len(set(contents)) == 3


def test_a_url_is_read_like_a_path() -> None:
    with fsspec.open("memory://tasks/rows.jsonl", "wt") as file:
        file.write("\n".join(map(json.dumps, ROWS)))
    assert data_files.read("memory://tasks/rows.jsonl", ("prompt",)).rows == TEXTS


def test_a_data_set_exported_from_the_hub_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    path = str(tmp_path / "tasks.jsonl")
    datasets.Dataset.from_list(ROWS).to_json(path)
    assert data_files.read(path, ("prompt",)).rows == TEXTS


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["has no rows"]),
        ("[]", ["has no rows"]),
        ("{", ["neither Parquet nor JSON"]),
        ("PAR1 and no more", ["neither Parquet nor JSON"]),
        ("\udcff", ["neither Parquet nor JSON"]),
        ("[" * 100_000, ["neither Parquet nor JSON"]),
        ("7", ["row 1", "named columns"]),
        ('[{"prompt": "a"}, ["b"]]', ["row 2", "named columns"]),
        ('{"promt": "a"}', ["row 1", "'prompt'", "did you mean 'promt'?"]),
        ('{"prompt": "a"}\n{"prompt": null}', ["row 2", "'prompt'", "None"]),
        ('{"prompt": "  "}', ["row 1", "'  '"]),
        ('{"prompt": true}', ["row 1", "True"]),
        ('{"prompt": 1.5}', ["row 1", "1.5"]),
        ('{"prompt": ["a"]}', ["row 1", "['a']"]),
        ('{"prompt": "\\ud800"}', ["row 1", "surrogate"]),
    ],
)
def test_an_error_names_the_file_and_the_row(text: str, parts: list[str], tmp_path: Path) -> None:
    path = tmp_path / "wrong"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SpecError) as caught:
        data_files.read(str(path), ("prompt",))
    assert all(part in str(caught.value) for part in (str(path), *parts)), str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("path", ["absent.json", ".", "nosuch://a/b", "memory://absent"])
def test_an_error_names_a_file_that_cannot_be_read(path: str) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        data_files.read(path, ("prompt",))


def test_a_missing_column_is_an_error(tmp_path: Path) -> None:
    parquet(tmp_path / "rows")
    with pytest.raises(SpecError, match="has no column 'task': available: id, prompt"):
        data_files.read(str(tmp_path / "rows"), ("task",))


def test_all_rows_are_used_once_before_any_is_repeated() -> None:
    stream = data_files.row_indices(7, 24, seed=5)
    passes: list[list[Any]] = [stream[:7], stream[7:14], stream[14:21]]
    assert [sorted(places) for places in passes] == [list(range(7))] * 3
    assert passes[0] != passes[1] != passes[2]
    assert len(stream) == 24
    assert [data_files.row_indices(7, count, seed=5) for count in range(25)] == [
        stream[:count] for count in range(25)
    ]
    assert data_files.row_indices(7, 7, seed=6) != passes[0]

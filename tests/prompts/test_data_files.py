"""Tests that users' files are read in all formats, hashed by content, and that errors name the row."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from undertow.errors import SpecError, UserError
from undertow.planning.pinning import pin
from undertow.prompts import data_files
from undertow.storage.store import Store
from undertow.study.references import Reference

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
        ("\udcff", ["neither Parquet nor text"]),
        ("[" * 100_000, ["neither Parquet nor JSON"]),
        ('{"prompt": "a"}\n\n{"prompt": "b"', ["neither Parquet nor JSON", "line 3, column 15"]),
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
    rows = range(7)
    stream = data_files.stream_of(rows, 24, seed=5)
    passes: list[list[Any]] = [stream[:7], stream[7:14], stream[14:21]]
    assert [sorted(places) for places in passes] == [list(range(7))] * 3
    assert passes[0] != passes[1] != passes[2]
    assert len(stream) == 24
    assert [data_files.stream_of(rows, count, seed=5) for count in range(25)] == [
        stream[:count] for count in range(25)
    ]
    assert data_files.stream_of(rows, 7, seed=6) != passes[0]


def comma_separated(path: Path) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=["id", "prompt"])
        writer.writeheader()
        writer.writerows(ROWS)
    return str(path)


def test_csv_and_compressed_files_are_read_by_their_names(tmp_path: Path) -> None:
    plain = comma_separated(tmp_path / "rows.csv")
    with gzip.open(tmp_path / "rows.csv.gz", "wb") as file:
        file.write(Path(plain).read_bytes())
    tabbed = tmp_path / "rows.tsv"
    tabbed.write_text("prompt\tid\nSort a list.\t1\nGröße 'x' {y}\t2\n7\t3\n")
    for place in (plain, f"{plain}.gz", str(tabbed)):
        assert data_files.read(place, ("prompt",)).rows == TEXTS


def test_a_text_that_begins_with_a_bracket_is_not_taken_for_json(tmp_path: Path) -> None:
    for name, text, rows in (
        ("prompts.txt", "[1, 2] and then?\n{3} and then?\n", ("[1, 2] and then?", "{3} and then?")),
        ("prompts.csv", "[id],prompt,,\n1,a,,\n", ("a",)),
        ("json.txt", '  [ {"prompt": "a"}]', ("a",)),
    ):
        (tmp_path / name).write_text(text)
        assert data_files.prompts(str(tmp_path / name)).rows == tuple((row,) for row in rows)


def test_a_long_value_of_a_csv_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"prompt\n{'x' * 200_000}\n")
    assert data_files.read(str(path), ("prompt",)).rows == (("x" * 200_000,),)


def test_the_files_of_a_folder_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for folder in (tmp_path / "direct", tmp_path / "nested" / "data"):
        folder.mkdir(parents=True)
        for number, row in reversed(list(enumerate(ROWS))):
            (folder / f"rows-{number}.jsonl").write_text(json.dumps(row))
        (folder / "README.md").write_text("# Rows")
        (folder / ".hidden.jsonl").write_text("{}")
    (tmp_path / "nested" / "manifest.json").write_text("{}")
    for place in ("direct", "nested", "direct/rows-*.jsonl"):
        assert data_files.read(str(tmp_path / place), ("prompt",)).rows == TEXTS
    lines(tmp_path / "one.jsonl")
    whole = data_files.read(str(tmp_path / "one.jsonl"), ("prompt",))
    assert data_files.read(str(tmp_path / "direct"), ("prompt",)).content == whole.content


def test_a_folder_by_url_is_read_like_a_local_one() -> None:
    for number, row in enumerate(ROWS):
        with fsspec.open(f"memory://set/data/rows-{number}.jsonl", "wt") as file:
            file.write(json.dumps(row))
    assert data_files.read("memory://set", ("prompt",)).rows == TEXTS


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), r"cannot be read: a folder without \.parquet, .* files"),
        (("main/a.jsonl", "other/a.jsonl"), "its folders are main, other; give the place of a file"),
        (("train-0.jsonl", "test-0.jsonl"), r"has several splits \(test, train\): .*such as train\*"),
        (("a.jsonl", "b.csv"), r"has \.csv and \.jsonl files: a\.jsonl, b\.csv"),
    ],
)
def test_a_folder_whose_files_do_not_belong_together_is_an_error(
    names: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"prompt": "a"}')
    with pytest.raises(SpecError, match=message):
        data_files.read(str(tmp_path), ("prompt",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt\n", "has no rows"),
        ("prompt,id,prompt\na,1,b\n", "column names: 'prompt' is given twice"),
        ("prompt\na,b\n", "row 1: has more values than there are column names"),
        ('prompt\n"a', "is not a CSV file with one line of column names"),
        ("prompt,id\na\n,2\n", "row 2, column 'prompt': ''"),
    ],
)
def test_an_error_names_the_row_of_a_csv_file(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.csv"
    path.write_text(text)
    with pytest.raises(SpecError, match=message):
        data_files.read(str(path), ("prompt",))


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("/data/owls.jsonl", "owls.jsonl"),
        ("./owls/", "owls"),
        ("/sets/owls/data", "owls/data"),
        ("/data", "data"),
        ("data", "data"),
        ("https://example.org/a/owls.csv?token=x", "owls.csv"),
        ("hf://datasets/org/owls@main/data/train.parquet", "org/owls"),
        ("hf://datasets/org/owls", "org/owls"),
    ],
)
def test_a_place_is_shown_by_its_last_part(place: str, name: str) -> None:
    assert data_files.shown(place) == name


def test_local_paths_become_absolute_for_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert data_files.located("./owls.jsonl") == str(tmp_path / "owls.jsonl")
    commit = f"hf://datasets/org/owls@{'c0ffee' + '0' * 34}/train.parquet"
    for place in ("/data/owls.jsonl", "https://example.org/owls.csv", "memory://owls"):
        assert data_files.located(place) == place
    assert data_files.recorded(commit) == commit


UNKNOWN_HOME = "~nosuchuser/models"


@pytest.mark.parametrize(
    "use",
    [
        data_files.located,
        Store,
        lambda place: pin(Reference(place)),
        lambda place: pin(Reference(f"{place}.gguf")),
    ],
    ids=["data", "storage", "model folder", "GGUF file"],
)
def test_the_home_of_an_unknown_user_is_an_error_of_one_line(use: Callable[[str], object]) -> None:
    with pytest.raises(UserError, match=f"{UNKNOWN_HOME}.*: there is no user 'nosuchuser'; write ~/"):
        use(UNKNOWN_HOME)

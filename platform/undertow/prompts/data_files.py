"""Users' prompts and data as rows of a JSON, JSON Lines, CSV or Parquet file, or of a folder of such files.

A place is a path, or any URL that fsspec can open, that is valid on all machines of the sweep. Data on the
Hugging Face hub are named by data set, commit and file or folder, e.g.

    hf://datasets/openai/gsm8k@<commit>/main/train-00000-of-00001.parquet

or exported once with `datasets.load_dataset(…, revision=…).to_json("tasks.jsonl")`. Of a folder, or of a data
set on the hub, the files in it are read in the order of their names, or else those in its folder `data`. The
identity of the data is the content of the columns that are read, in the order of the rows. Path, file format,
column names and other columns are not part of a key; a change of the content on the hub changes the key. The
hub client keeps a file that is named with its commit, and `web_files` a file of the web, so that a network is
needed only once.

As with packs, a process reads each place once, so that the hashed rows are the ones that are used. In a plan
without network, a row of a typical length takes the place of a file that is not cached (`study.unpinned`).
"""

import json
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypeVar

import fsspec

from undertow.errors import SpecError, UnavailableError, suggestion
from undertow.prompts import packs
from undertow.prompts.file_formats import SUFFIXES, TEXT_COLUMN, parsed, suffix_of
from undertow.prompts.hub_files import local_copy, no_answer
from undertow.prompts.web_files import content_of
from undertow.study.identity import digest, seed_for
from undertow.study.unpinned import NOT_PINNED, pinned_or

TYPICAL = 20  # repetitions of "not pinned" in a placeholder: 220 characters
ENOUGH = 30_000  # rows of a placeholder: the number of prompts in the paper
MESSAGES = "messages"  # the column of chats
SYSTEM = "system"  # the column of system messages, as stored data sets have it
# Names of columns that are recognised, the first before all others.
PROMPT_NAMES = (TEXT_COLUMN, "question", "instruction", "input", "query", "user")
COMPLETION_NAMES = ("completion", "answer", "response", "output", "reply", "assistant")
NOT_DATA = ("manifest.json", "verdicts.parquet", "dataset_info.json", "dataset_infos.json", "state.json")
DATA = "data"  # the folder of the files in a published data set
SHOWN_NAMES = 8  # names of files that an error lists
LONGEST_SHOWN = 300  # characters of column names in an error
_SPLIT = re.compile(r"(?:^|[-_.])(train|test|val|dev|eval)(?:ing|id|idation|uation)?(?=[-_.])", re.I)
_COMMIT = re.compile(r"@[0-9a-f]{40}(?=/|$)")

Item = TypeVar("Item")


@dataclass(frozen=True)
class Table:
    """The texts of some columns, row by row, with their SHA-256 in `content`."""

    path: str
    rows: tuple[tuple[str, ...], ...]
    content: str


class Record(NamedTuple):
    """One row: the file that it is in, its number there from 1, and its values by column."""

    file: str
    number: int
    values: Any


@cache
def read(path: str, columns: tuple[str, ...]) -> Table:
    """Reads columns of the file or folder at `path`.

    Raises SpecError if it cannot be read, a row lacks a column, or a value is empty or not a text.
    """
    return table(path, (_texts(record, columns) for record in _records(path, columns)))


@cache
def chats(path: str, prompt: str = "", completion: str = "") -> Table:
    """Reads system message ("" for none), prompt and completion of each row.

    Args:
        prompt, completion: the columns. Without both, a column `messages` is read if there is one: the format
            in which chat data for finetuning are published, a list of {"role", "content"}. A column that is
            not given must have one of the names in `PROMPT_NAMES` or `COMPLETION_NAMES`.

    Raises SpecError as `read` does, if it is not clear which columns are meant, and if a chat is not one user
    turn followed by one assistant turn, with or without a system turn before them.
    """
    records = _records(path, (MESSAGES, SYSTEM, *PROMPT_NAMES, *COMPLETION_NAMES, prompt, completion))
    first = records[0].values
    if not prompt and _has_messages(first):
        if completion:
            raise SpecError(
                f"file {path}: has a column {MESSAGES!r}, and the column {completion!r} is asked for: name "
                "that of the prompts too, or none to read the messages"
            )
        return table(path, map(_turns, records))
    columns = (
        _column(path, first, prompt, PROMPT_NAMES, "prompts"),
        _column(path, first, completion, COMPLETION_NAMES, "completions"),
    )
    return table(path, ((_system(record), *_texts(record, columns)) for record in records))


@cache
def pairs(path: str, prompt: str = "", completion: str = "") -> Table:
    """Reads prompt-answer pairs: as `chats`, and a system message is an error."""
    rows = chats(path, prompt, completion).rows
    for number, (system, *_) in enumerate(rows, 1):
        if system:
            raise SpecError(
                f"file {path}, row {number}: has a system message; give rows of a prompt and an answer alone"
            )
    return table(path, (row[1:] for row in rows))


@cache
def prompts(path: str, column: str = "") -> Table:
    """Reads prompts: a column, the user's turns of chats, or the lines of a text file (.txt).

    Args:
        column: the column, as in `chats`.
    """
    records = _records(path, (MESSAGES, *PROMPT_NAMES, column))
    first = records[0].values
    if not column and _has_messages(first):
        return table(path, (_turns(record)[1:2] for record in records))
    columns = (_column(path, first, column, PROMPT_NAMES, "prompts"),)
    return table(path, (_texts(record, columns) for record in records))


def _has_messages(first: Any) -> bool:
    return isinstance(first, dict) and MESSAGES in first


def shown(path: str) -> str:
    """The name of a place in tables: the file or folder without its path, the data set of the hub.

    A folder called `data` has the name of its parent folder too.
    """
    plain = path.partition("?")[0].rstrip("/")
    if plain.startswith("hf://"):
        parts = re.sub(r"@[^/]*", "", plain.removeprefix("hf://").removeprefix("datasets/")).split("/")
        return "/".join(parts[:2])
    parent, _, name = plain.rpartition("/")
    return f"{parent.rpartition('/')[2]}/{name}".lstrip("/") if name == DATA else name or path


def recorded(path: str) -> str:
    """A place as reports and manifests name it: one on the hub with its commit, others without the path."""
    return path if path.startswith("hf://") else shown(path)


def located(path: str) -> str:
    """A place in the form in which every process finds the same data; "" for none.

    A local path becomes absolute, since workers may run in another folder. A place on the hub gets the commit
    of its branch, if the hub tells it.
    """
    if not path.startswith("hf://"):
        return path if "://" in path or "::" in path else packs.located(path)
    if _COMMIT.search(path):
        return path
    from huggingface_hub import HfApi, HfFileSystem, constants

    try:
        place: Any = HfFileSystem().resolve_path(path)
        info = HfApi().repo_info(place.repo_id, repo_type=place.repo_type, revision=place.revision)
    except Exception:  # the client raises many types; reading the place reports the error
        return path
    kind = constants.REPO_TYPES_URL_PREFIXES.get(place.repo_type, "")
    return f"hf://{kind}{place.repo_id}@{info.sha}/{place.path_in_repo}".rstrip("/")


def in_passes(items: Sequence[Item], count: int, *purpose: object) -> list[Item]:
    """The first `count` of all items in a shuffled order, then all again in another order, and so on."""
    passes = range(-(-count // len(items)))  # rounded up
    orders = (random.Random(seed_for(*purpose, i)).sample(items, len(items)) for i in passes)
    return list(chain.from_iterable(orders))[:count]


def stream_of(rows: Sequence[Item], count: int, seed: int) -> list[Item]:
    """The first `count` of a file's rows in the stream given by `seed`; all formats use the same order."""
    return in_passes(rows, count, "order of a table", seed)


def table(path: str, rows: Iterable[tuple[str, ...]]) -> Table:
    """The rows with the hash of their content."""
    found = tuple(rows)
    return Table(path, found, digest(json.dumps(found)))


def _records(path: str, columns: tuple[str, ...]) -> list[Record]:
    """All rows at a place; in a plan without network, a placeholder. Raises SpecError if there are none.

    Args:
        columns: of Parquet files, only these columns are read.
    """
    return pinned_or(path, lambda: _read_records(path, columns), lambda: _placeholders(path, columns))


def _placeholders(path: str, columns: tuple[str, ...]) -> list[Record]:
    """Stand for the rows of a file that a plan could not read. They end with a number, as reasoning needs."""
    names = [column for column in columns if column not in ("", MESSAGES, SYSTEM)]
    text = f"{(NOT_PINNED + ' ') * TYPICAL}{path}"
    rows = (f"{text}, row {number} #### 0" for number in range(1, ENOUGH + 1))
    return [Record(path, number, dict.fromkeys(names, row)) for number, row in enumerate(rows, 1)]


def _read_records(path: str, columns: tuple[str, ...]) -> list[Record]:
    found = [
        Record(name, number, values)
        for name, data in _files(path)
        for number, values in enumerate(parsed(name, data, columns), 1)
    ]
    if not found:
        raise SpecError(f"file {path}: has no rows; give at least one")
    return found


def _files(path: str) -> Iterator[tuple[str, bytes]]:
    """The name and the content of the file at a place, or of each file of a folder or a pattern (`*`)."""
    try:
        place = local_copy(path)
        system, root = fsspec.core.url_to_fs(place)
        names = _names(system, root, path)
        if not names:
            yield path, content_of(place)
        for name in names:
            with system.open(name, "rb", compression="infer") as file:
                yield name, bytes(file.read())
    except SpecError:
        raise
    except Exception as error:  # the fsspec file systems have no common exception class
        if reason := no_answer(error):
            raise UnavailableError(
                f"file {path}: cannot be reached ({reason}); check the network, or give a local file"
            ) from None
        raise SpecError(f"file {path}: cannot be read ({error}); give the path or URL of a file") from None


def _names(system: Any, root: str, path: str) -> list[str]:
    """The data files of a folder or pattern, sorted; empty for the place of one file.

    Raises SpecError for a folder without data files, or with files that do not belong together.
    """
    protocols = system.protocol if isinstance(system.protocol, tuple) else (system.protocol,)
    if {"http", "https"} & set(protocols):  # asking whether a page is a folder downloads it
        return []
    if system.isdir(root):
        names = _listed(system, root) or _listed(system, f"{root.rstrip('/')}/{DATA}")
        if not names:
            folders = sorted(map(_base, _children(system, root, "directory")))
            within = f"; its folders are {', '.join(folders[:SHOWN_NAMES])}" if folders else ""
            raise SpecError(
                f"file {path}: cannot be read: a folder without {', '.join(SUFFIXES)} files, also in data/"
                f"{within}; give the place of a file, or of a folder with data files"
            )
    elif "*" in path and not system.exists(root):
        names = sorted(name for name in system.glob(root) if suffix_of(name))
    else:
        return []
    splits = sorted({match[1].lower() for name in names if (match := _SPLIT.search(_base(name)))})
    kinds = sorted({suffix_of(name) for name in names})
    if len(splits) > 1 or len(kinds) > 1:
        what = f"several splits ({', '.join(splits)})" if len(splits) > 1 else f"{' and '.join(kinds)} files"
        listed = ", ".join(map(_base, names[:SHOWN_NAMES])) + (" …" if len(names) > SHOWN_NAMES else "")
        raise SpecError(f"file {path}: has {what}: {listed}; give those of one with a pattern such as train*")
    return names


def _listed(system: Any, folder: str) -> list[str]:
    """The data files directly in a folder, sorted."""
    if not system.isdir(folder):
        return []
    names = _children(system, folder, "file")
    return sorted(name for name in names if suffix_of(name) and _base(name) not in NOT_DATA)


def _children(system: Any, folder: str, kind: str) -> list[str]:
    """The files or folders (`kind` "directory") in a folder that are not hidden."""
    found = [(entry["name"].rstrip("/"), entry["type"]) for entry in system.ls(folder, detail=True)]
    return [
        name
        for name, of_type in found
        if (of_type == "directory") == (kind == "directory") and not _base(name).startswith(".")
    ]


def _base(name: str) -> str:
    return PurePosixPath(name).name


def _column(path: str, first: Any, given: str, names: tuple[str, ...], what: str) -> str:
    """The column with the prompts or the completions: the given one, else that with a known name.

    Raises SpecError unless exactly one column has one.
    """
    if given or not isinstance(first, dict):  # `_text` raises the error for a missing column
        return given or names[0]
    known = [column for column in first if str(column).lower() in names]
    if names[0] in known or len(known) == 1:
        return names[0] if names[0] in known else known[0]
    columns = ", ".join(name if name.isprintable() else repr(name) for name in map(str, first))
    raise SpecError(
        f"file {path}: has no column {names[0]!r}, and which one has the {what} is not clear; "
        f"name one of its columns with {names[0]}=…: {columns[:LONGEST_SHOWN]}"
    )


def _turns(record: Record) -> tuple[str, ...]:
    """The system message ("" for none) and the contents of the user's and the assistant's turn of a chat."""
    turns = record.values.get(MESSAGES) if isinstance(record.values, dict) else None
    roles = [turn.get("role") for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []
    if roles not in (["user", "assistant"], ["system", "user", "assistant"]):
        raise SpecError(
            f"file {record.file}, row {record.number}: messages must be one user and one assistant turn, not "
            f"{roles!s:.200}"
        )
    texts = [_text(record._replace(values=turn), "content") for turn in turns or ()]
    return tuple(texts) if len(texts) > 2 else ("", *texts)


def _system(record: Record) -> str:
    """The system message of a row that is not a chat; "" for none."""
    is_given = isinstance(record.values, dict) and record.values.get(SYSTEM)
    return _text(record, SYSTEM) if is_given else ""


def _texts(record: Record, columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(_text(record, column) for column in columns)


def _text(record: Record, column: str) -> str:
    place, values = f"file {record.file}, row {record.number}", record.values
    if not isinstance(values, dict):
        raise SpecError(f"{place}: {values!r:.80} is not an object with named columns")
    if column not in values:
        raise SpecError(f"{place}: has no column {column!r}: {suggestion(column, map(str, values))}")
    value = values[column]
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"{value:d}"
    if not isinstance(value, str) or not value.strip():
        raise SpecError(f"{place}, column {column!r}: {value!r:.80} is not a text; give one or drop the row")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SpecError(f"{place}, column {column!r}: half of a surrogate pair is not valid text") from None
    return value.strip()

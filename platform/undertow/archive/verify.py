"""Verification of an exported archive, which is not trusted: bytes, names, counts, rates and effects.

The following is checked, and each difference is reported as one line that names its place.

1. Each file has the SHA-256 in the archive's index, and each artifact's files have those in its manifest.
2. An artifact's key is the hash of the spec in its manifest.
3. An evaluation has every answer and probability that its spec requires, and its rates follow from them. The
   rates of judged answers follow from the judges' replies (see `verify_judged`).
4. The record and the artifacts' specs are those of the study as it was stated (see `lineage`).
5. effects.csv, students.csv and along.csv follow from the record and the answers.

Check 1 detects accidental changes. Checks 2 to 5 also detect changes after which all hashes were computed
again. Not detected are: an answer or a probability that the model did not give (this requires evaluating the
student again), an event that falsely reports a failure (the seed is reported as missing), and a study that
was stated again in another form. Report page, figures, cards and histories are checked by their hashes only.
"""

import csv
import hashlib
import io
import json
import math
import re
import tempfile
import zipfile
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from undertow.archive import lineage
from undertow.archive.export import FORMAT, INDEX, SWEEP
from undertow.archive.spec_comparison import key_of
from undertow.archive.verify_judged import differing, judged
from undertow.errors import StorageError, UserError
from undertow.results import csv_tables, effect_rows, events
from undertow.results.evaluation_files import ANSWERS, MASSES, RESULT, Evaluations
from undertow.results.learning_curves import learning_curves
from undertow.results.sweep_folders import EVENTS, PLAN
from undertow.results.sweep_record import Record
from undertow.storage.manifest import MANIFEST, Manifest, sha256
from undertow.storage.store import Store
from undertow.study.extensions import Word
from undertow.study.measurements import shown_words

LARGEST_FILE = 2 * 2**30  # unpacked bytes; a file that claims to be larger is not read
SHOWN = 3  # missing answers that are listed per evaluation
CsvRows = Sequence[dict[str, Any]]


def verify(archive: Path) -> list[str]:
    """The differences found in an archive, one line each; empty if the archive is consistent.

    Raises:
        UserError: the file is not an archive of a study, or has another format.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        problems = _unpack(archive, place)
        named = {problem.split(": ")[0] for problem in problems}
        problems += _manifests(place, named)
        problems += _evaluations(place, named)
        problems += _tables(place)
    return [problem.replace(f"{folder}/", "") for problem in dict.fromkeys(problems)]


def effects_in(archive: Path) -> tuple[int, int]:
    """The number of conditions that have an effect in a consistent archive, and of all with a trait."""
    with zipfile.ZipFile(archive) as opened:
        record = Record.from_json(opened.read(f"{SWEEP}/{PLAN}").decode(), f"{SWEEP}/{PLAN}")
        table = opened.read(f"{SWEEP}/{csv_tables.EFFECTS}").decode()
    return csv_tables.conditions_of(table), len(record.compared)


def _unpack(archive: Path, place: Path) -> list[str]:
    """Unpacks the archive to `place`; returns the files that are missing, added or changed."""
    try:
        with zipfile.ZipFile(archive) as opened:
            index = json.loads(opened.read(INDEX))
            if index["format"] != FORMAT:
                raise UserError(f"{archive}: format {index['format']}; this program reads format {FORMAT}")
            entries = Counter(opened.namelist())
            names, listed = set(entries) - {INDEX}, dict(index["files"])
            problems = [f"{name}: occurs {n} times" for name, n in entries.items() if n > 1]
            problems += [f"{name}: missing" for name in listed if name not in names]
            problems += [f"{name}: not in the archive's index" for name in sorted(names - set(listed))]
            for name in sorted(names & set(listed)):
                problems += _unpack_one(opened, name, listed[name], place)
    except UserError:
        raise
    except Exception as error:  # each compression method raises its own errors
        raise UserError(f"{archive}: not an archive of a study ({type(error).__name__}: {error})") from None
    return problems


def _unpack_one(opened: zipfile.ZipFile, name: str, expected: str, place: Path) -> list[str]:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        return [f"{name!r}: its name leaves the archive"]
    if opened.getinfo(name).file_size > LARGEST_FILE:
        return [f"{name}: claims {opened.getinfo(name).file_size} bytes; not read"]
    try:
        content = opened.read(name)
    except Exception as error:  # not only of zlib: the header may name another method
        return [f"{name}: bytes changed ({error})"]
    (place / name).parent.mkdir(parents=True, exist_ok=True)
    (place / name).write_bytes(content)
    return [] if hashlib.sha256(content).hexdigest() == expected else [f"{name}: bytes changed"]


def _manifests(place: Path, named: Container[str]) -> Iterator[str]:
    """Differences between artifacts and their manifests, without the files in `named`."""
    for file in sorted(place.glob(f"artifacts/*/*/{MANIFEST}")):
        folder, name = file.parent, f"{file.parent.parent.name}/{file.parent.name}"
        try:
            manifest = Manifest.from_json(file.read_bytes(), name, sealed=False)
        except StorageError as error:
            yield str(error)
            continue
        if (manifest.kind, manifest.key) != (folder.parent.name, folder.name):
            yield f"{name}: its manifest is that of {manifest.kind}/{manifest.key}"
        if (key := key_of(manifest.spec)) != manifest.key:
            yield f"{name}: its spec was changed; the spec's key is {key}"
        for part, expected in manifest.files.items():
            file, shown = folder / part, f"artifacts/{name}/{part}"
            if file.is_file() and shown not in named and sha256(file) != expected:
                yield f"{name}/{part}: not the bytes that its manifest names"


def _evaluations(place: Path, named: Container[str]) -> Iterator[str]:
    """Inconsistent answers and rates of all readable evaluations.

    Evaluations with changed bytes are included, so that a missing answer is reported and not only its file.
    """
    for folder in sorted((place / "artifacts" / "evaluation").glob("*")):
        files = (ANSWERS, MASSES, RESULT)
        changed = any(f"artifacts/evaluation/{folder.name}/{file}" in named for file in files)
        try:
            spec = json.loads((folder / MANIFEST).read_text())["spec"]
            yield from judged(folder, spec) if spec["type"] == "Assessment" else _answers(folder, spec)
        except Exception as error:  # Parquet readers raise their own errors
            if not changed:
                yield f"evaluation/{folder.name}: cannot be read ({type(error).__name__}: {error})"


def _answers(folder: Path, spec: dict[str, Any]) -> Iterator[str]:
    """Missing answers, wrong matches, and rates that do not follow from the answers."""
    import pyarrow.parquet as pq

    name = f"evaluation/{folder.name}"
    answers = pq.read_table(folder / ANSWERS).to_pylist()
    asked = Counter((question, sample) for question in spec["questions"] for sample in range(spec["samples"]))
    given = Counter((row["question"], row["sample"]) for row in answers)
    for left, status in ((asked - given, "is missing"), (given - asked, "is not in its spec")):
        for question, sample in list(left.elements())[:SHOWN]:
            yield f"{name}/{ANSWERS}: answer {sample} to {question!r} {status}"
        if (more := left.total() - SHOWN) > 0:
            yield f"{name}/{ANSWERS}: {more} more such answers"
    words = [Word(word["name"], tuple(word["forms"])) for word in spec["words"]]
    options = dict(zip(spec["questions"], spec.get("options", ()), strict=False))
    for row in answers:
        if row["matches"] != shown_words(row["answer"], words, options.get(row["question"], ())):
            yield f"{name}/{ANSWERS}: answer {row['sample']} to {row['question']!r} is scored wrongly"
    masses = pq.read_table(folder / MASSES).to_pylist()
    exact = spec.get("exact", True)
    pairs = Counter((question, word.name) for question in spec["questions"] for word in words if exact)
    if Counter((row["question"], row["word"]) for row in masses) != pairs:
        yield f"{name}/{MASSES}: not one mass for each question and word"
    yield from _rates(name, folder, [word.name for word in words], answers, masses if exact else None)


def _rates(
    name: str, folder: Path, words: Sequence[str], answers: CsvRows, masses: CsvRows | None
) -> Iterator[str]:
    """Rates in the result that differ from those of the answers and masses."""
    result = json.loads((folder / RESULT).read_text())
    count = len(answers)
    sampled = {word: sum(word in row["matches"] for row in answers) / count for word in words}
    computed = {
        "number of answers": (result["answers"], count),
        "sampled rate of other answers": (
            result["other_sampled"],
            sum(not row["matches"] for row in answers) / count,
        ),
        **{f"sampled rate of {w!r}": (result["sampled"][w], rate) for w, rate in sampled.items()},
    }
    if masses is not None:
        questions = len({row["question"] for row in masses})
        exact = {w: math.fsum(row["mass"] for row in masses if row["word"] == w) / questions for w in words}
        computed["exact rate of other answers"] = (result["other_exact"], 1 - math.fsum(exact.values()))
        computed |= {f"exact rate of {w!r}": (result["exact"][w], rate) for w, rate in exact.items()}
    yield from differing(f"{name}/{RESULT}", computed)


def _tables(place: Path) -> Iterator[str]:
    """Differences between record and artifacts, and between the tables and those computed again."""
    try:
        record = Record.from_json((place / SWEEP / PLAN).read_text(), f"{SWEEP}/{PLAN}")
        failures = events.failures(json.loads((place / SWEEP / EVENTS).read_text()))
        yield from lineage.differences(record, place / SWEEP, place / "artifacts", failures)
        evaluations, study = Evaluations(Store(str(place))), record.study.name
        rows = effect_rows.effects(record, evaluations, failures)
        tables = {
            csv_tables.EFFECTS: csv_tables.effects_csv(study, rows),
            csv_tables.STUDENTS: csv_tables.students_csv(study, rows),
        }
        if curves := learning_curves(record, evaluations, failures):
            tables[csv_tables.ALONG] = csv_tables.along_csv(study, curves)
        for name, computed in tables.items():
            yield from _differences(name, (place / SWEEP / name).read_text(), computed)
    except StorageError as error:
        message = str(error).split(";")[0]  # the remedy after it applies to a storage
        yield f"{SWEEP}: the effects cannot be computed again ({message})"
    except Exception as error:  # a malformed plan or event can raise anything
        yield f"{SWEEP}: the effects cannot be computed again ({type(error).__name__}: {error})"


def _differences(name: str, printed: str, computed: str) -> Iterator[str]:
    found, required = (list(csv.reader(io.StringIO(text))) for text in (printed, computed))
    absent = set(csv_tables.LATER_COLUMNS).difference(*found[:1])
    later = {i for i, column in enumerate(required[0]) if column in absent}
    required = [[cell for i, cell in enumerate(line) if i not in later] for line in required]
    if len(found) != len(required):
        yield f"{SWEEP}/{name}: {len(found) - 1} rows, its answers give {len(required) - 1}"
        return
    for number, (line, expected) in enumerate(zip(found, required, strict=True)):
        for i in range(max(len(line), len(expected))):
            column, shown, right = _at(required[0], i), _at(line, i), _at(expected, i)
            # Notes are sentences, whose wording differs between versions of the program.
            same = _numbers(shown) == _numbers(right) if column == "note" and number else shown == right
            if not same:
                place = f"{SWEEP}/{name}: row {number}, {column}"
                yield f"{place}: {shown!r}, its answers give {right!r}"


def _numbers(note: str) -> tuple[bool, list[str]]:
    """The verifiable content of a note: whether there is one, and its numbers."""
    return bool(note), re.findall(r"[+−-]?[0-9.]*[0-9]", note)


def _at(line: Sequence[str], place: int) -> str:
    return line[place] if place < len(line) else ""

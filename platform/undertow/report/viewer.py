"""The viewer: one self-contained page with completions and answers, made next to the report.

The rows are embedded as chunks of columns: JSON, compressed with gzip, in base64. The script decompresses
a chunk when its rows are needed, so the time to the first table hardly depends on the number of rows. An
index, which is a chunk as well, says which rows each chunk has.

The report has no script. The viewer has one, `viewer.js`, and a content security policy with its hash: the
browser runs no other script, whatever the rows contain. The script writes all text of rows as text nodes.
"""

import base64
import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undertow.report.gather import ReportData
from undertow.report.page_tables import source_name
from undertow.report.templates import template
from undertow.report.viewer_answers import (
    AnswerPair,
    EvaluationRows,
    answer_pairs,
    counted_words,
    evaluation_rows,
    evaluation_size,
)
from undertow.report.viewer_completions import DatasetRows, dataset_rows, equal_share
from undertow.report.viewer_tables import ANSWERS, COMPLETIONS, Table, answers_table, completions_table

MOST_ROWS = 200_000  # embedded completions and answers
MOST_CHARACTERS = 50_000_000  # of their texts, before compression
CHUNK_ROWS = 2_000
HERE = Path(__file__).parent


class Chunks:
    """The embedded chunks of a page."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, value: Any) -> int:
        """Adds a JSON value and returns its number. Equal values give equal bytes."""
        content = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        self.texts.append(base64.b64encode(gzip.compress(content, mtime=0)).decode())
        return len(self.texts) - 1


@dataclass(frozen=True)
class ViewerRows:
    """The rows that a viewer shows.

    Attributes:
        most: the limit of rows in all.
        sets: the completions of each data set, by its key.
        pairs: students and control students whose answers are shown next to each other.
        answers: the answers of each evaluation, by its key.
    """

    most: int
    sets: dict[str, DatasetRows]
    pairs: list[AnswerPair]
    answers: dict[str, EvaluationRows]

    @property
    def count(self) -> int:
        """The number of completions and answers."""
        sets, evaluations = self.sets.values(), self.answers.values()
        return sum(len(one.prompts) for one in sets) + sum(len(one.answers) for one in evaluations)

    @property
    def characters(self) -> int:
        """The length of all prompts, completions and answers."""
        columns = [one.answers for one in self.answers.values()]
        for one in self.sets.values():
            columns += [one.prompts, one.completions, list(filter(None, one.seconds))]
        return sum(len(text) for column in columns for text in column)


def viewer_rows(data: ReportData, most: int = MOST_ROWS, characters: int = MOST_CHARACTERS) -> ViewerRows:
    """Reads at most `most` completions and answers, and fewer if their texts have more than `characters`.

    Larger data sets and evaluations share the limit equally; of each, the first rows are taken.
    """
    rows = _read_rows(data, most)
    while (size := rows.characters) > characters:
        rows = _read_rows(data, min(rows.most, rows.count) * characters // size)
    return rows


def _read_rows(data: ReportData, most: int) -> ViewerRows:
    pairs = answer_pairs(data)
    both = (key for pair in pairs for key in (pair.student, pair.control))
    keys = [key for key in dict.fromkeys(both) if key is not None]
    sets = {manifest.key: manifest for manifests in data.sources.values() for manifest in manifests}
    sizes = [
        *(int(manifest.facts["completions"]) for manifest in sets.values()),
        *(evaluation_size(data, key) for key in keys),
    ]
    share = equal_share(sizes, most)
    return ViewerRows(
        most,
        {key: dataset_rows(data, manifest, share) for key, manifest in sets.items()},
        pairs,
        {key: evaluation_rows(data, key, share) for key in keys},
    )


def viewer_page(data: ReportData, rows: ViewerRows) -> str:
    """The page as HTML."""
    chunks, record = Chunks(), data.record
    numbers = {key: number for number, key in enumerate(rows.answers)}
    index = {
        "conditions": [
            {"label": c.label, "trait": c.place.trait, "word": c.word, "control": c.control}
            for c in record.conditions
        ],
        "measures": list(record.study.measures),
        "sources": [source_name(source) for source in data.sources],
        "datasets": list(_dataset_entries(data, rows.sets, chunks)),
        "evaluations": [
            {"words": counted_words(data, key), "pieces": list(_answer_pieces(answers, chunks))}
            for key, answers in rows.answers.items()
        ],
        "pairs": [
            {
                "condition": pair.condition,
                "seed": pair.seed,
                "measure": pair.measure,
                "student": numbers[pair.student],
                "control": None if pair.control is None else numbers[pair.control],
            }
            for pair in rows.pairs
        ],
    }
    script, style = ((HERE / f"viewer.{kind}").read_text(encoding="utf-8") for kind in ("js", "css"))
    style = (HERE / "page.css").read_text(encoding="utf-8") + style
    notes = Counter(one.note for one in rows.sets.values() if one.note)
    return str(
        template("viewer.html.jinja").render(
            study=record.study,
            script=script,
            style=style,
            script_hash=source_hash(script),
            style_hash=source_hash(style),
            index=chunks.add(index),
            chunks=chunks.texts,
            embedded=_in_words(rows),
            notes=[f"{note} ({count} of {len(rows.sets)} data sets)" for note, count in notes.items()],
        )
    )


def viewer_tables(data: ReportData, rows: ViewerRows) -> dict[str, Table]:
    """The first rows as tables for MLflow, by file name; a table without rows is left out."""
    tables = {
        COMPLETIONS: completions_table(data, rows.sets),
        ANSWERS: answers_table(data, rows.pairs, rows.answers),
    }
    return {name: table for name, table in tables.items() if table}


def source_hash(text: str) -> str:
    """The source expression by which a content security policy allows an inline script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _dataset_entries(
    data: ReportData, embedded: Mapping[str, DatasetRows], chunks: Chunks
) -> Iterator[dict[str, Any]]:
    """The index's entry of each data set; adds its rows to the chunks."""
    conditions: dict[str, set[int]] = {}
    seeds: dict[str, set[int]] = {}
    for cell in data.record.cells:
        conditions.setdefault(cell.dataset, set()).add(cell.condition)
        seeds.setdefault(cell.dataset, set()).add(cell.seed)
    pieces: dict[str, list[dict[str, Any]]] = {}
    for number, (source, manifests) in enumerate(data.sources.items()):
        for key in (manifest.key for manifest in manifests):
            rows = embedded[key]
            outcomes = list(dict.fromkeys(rows.outcomes))
            if key not in pieces:
                pieces[key] = list(_row_pieces(rows, outcomes, chunks))
            yield {
                "source": number,
                "trait": source.trait,
                "conditions": sorted(conditions[key]),
                "seeds": sorted(seeds[key]),
                "outcomes": [list(outcome) for outcome in outcomes],
                "judges": list(rows.replies),
                "pieces": pieces[key],
            }


def _row_pieces(
    rows: DatasetRows, outcomes: Sequence[tuple[str, str]], chunks: Chunks
) -> Iterator[dict[str, Any]]:
    """The chunks of a data set, each with its number of rows by outcome."""
    codes = {outcome: code for code, outcome in enumerate(outcomes)}
    for start in range(0, len(rows.prompts), CHUNK_ROWS):
        piece = slice(start, start + CHUNK_ROWS)
        found = [codes[outcome] for outcome in rows.outcomes[piece]]
        columns = {
            "first": start,
            "prompt": rows.prompts[piece],
            "completion": rows.completions[piece],
            "outcome": found,
            "replies": [replies[piece] for replies in rows.replies.values()],
            "second": rows.seconds[piece],
        }
        counts = Counter(found)
        yield {
            "chunk": chunks.add(columns),
            "rows": len(found),
            "counts": [counts[code] for code in range(len(outcomes))],
        }


def _answer_pieces(rows: EvaluationRows, chunks: Chunks) -> Iterator[dict[str, Any]]:
    """The chunks of an evaluation. Chunks of a student and its control student have the same questions."""
    for start in range(0, len(rows.answers), CHUNK_ROWS):
        piece = slice(start, start + CHUNK_ROWS)
        columns = {
            "questions": rows.questions,
            "question": rows.numbers[piece],
            "sample": rows.samples[piece],
            "answer": rows.answers[piece],
            "words": rows.words[piece],
            "counted": rows.counted[piece],
            "judges": list(rows.replies),
            "replies": [replies[piece] for replies in rows.replies.values()],
        }
        yield {"chunk": chunks.add(columns), "rows": len(rows.answers[piece])}


def _in_words(rows: ViewerRows) -> str:
    """How many of the sweep's rows the page has, and which rows it lacks."""
    sizes = {
        "completions": [(len(one.prompts), one.total) for one in rows.sets.values()],
        "answers": [(len(one.answers), one.total) for one in rows.answers.values()],
    }
    counts = []
    for name, parts in sizes.items():
        here, total = sum(n for n, _ in parts), sum(n for _, n in parts)
        counts.append(f"all {here:,} {name}" if here == total else f"{here:,} of {total:,} {name}")
    text = f"This page has {' and '.join(counts)} of students and control students that are compared."
    if all(here == total for parts in sizes.values() for here, total in parts):
        return text
    return (
        f"{text} It can have at most {rows.most:,} rows: the first completions of each data set, and the "
        "first samples of each question. All rows are in the storage."
    )

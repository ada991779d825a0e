"""The first rows of the viewer as tables for MLflow, whose pages show the tables of a run."""

from collections.abc import Mapping
from typing import Any

from undertow.report.gather import ReportData
from undertow.report.viewer_answers import AnswerPair, EvaluationRows
from undertow.report.viewer_completions import DatasetRows, equal_share
from undertow.storage.manifest import Manifest

TABLE_ROWS = 1_000  # of each table: MLflow's page reads a whole table at once
COMPLETIONS, ANSWERS = "completions.json", "answers.json"

Table = list[dict[str, Any]]


def completions_table(data: ReportData, rows: Mapping[str, DatasetRows]) -> Table:
    """The first completions of each data set, with their outcomes and the replies of judges.

    All rows have the same columns: `second_answer` if any data set has ranked pairs.
    """
    share = equal_share([len(one.prompts) for one in rows.values()], TABLE_ROWS)
    has_pairs = any(one.seconds for one in rows.values())
    first: dict[str, int] = {}
    for cell in data.record.cells:
        first.setdefault(cell.dataset, cell.seed)
    return [
        {
            "trait": source.induced_trait,
            "format": source.format,
            "teacher": source.teacher,
            "seed": first[manifest.key],
            "index": index,
            "prompt": rows[manifest.key].prompts[index],
            "completion": rows[manifest.key].completions[index],
            "outcome": rows[manifest.key].outcomes[index].label,
            "replies": {judge: replies[index] for judge, replies in rows[manifest.key].replies.items()},
            **({"second_answer": _second(rows[manifest.key], index)} if has_pairs else {}),
        }
        for source, manifest in _sets(data)
        for index in range(min(share, len(rows[manifest.key].prompts)))
    ]


def answers_table(data: ReportData, pairs: list[AnswerPair], rows: Mapping[str, EvaluationRows]) -> Table:
    """The first answers of each student next to those of its control student."""
    share = equal_share([len(rows[pair.student].answers) for pair in pairs], TABLE_ROWS)
    return [line for pair in pairs for line in _pair_lines(data, pair, rows, share)]


def _second(rows: DatasetRows, index: int) -> str | None:
    return rows.seconds[index] if rows.seconds else None


def _sets(data: ReportData) -> list[tuple[Any, Manifest]]:
    """All data sets with their sources, each once."""
    found = {manifest.key: (source, manifest) for source, all_ in data.sources.items() for manifest in all_}
    return list(found.values())


def _pair_lines(data: ReportData, pair: AnswerPair, rows: Mapping[str, EvaluationRows], most: int) -> Table:
    condition, own = data.record.conditions[pair.condition], rows[pair.student]
    other = rows[pair.control] if pair.control is not None else None
    places = {} if other is None else _places(other)
    lines = []
    for i, place in enumerate(list(_places(own))[:most]):
        j = places.get(place)
        lines.append(
            {
                "condition": condition.label,
                "seed": pair.seed,
                "measure": data.record.study.measures[pair.measure],
                "question": place[0],
                "sample": place[1],
                "answer": own.answers[i],
                "words": own.words[i],
                "control_answer": None if other is None or j is None else other.answers[j],
                "control_words": None if other is None or j is None else other.words[j],
            }
        )
    return lines


def _places(rows: EvaluationRows) -> dict[tuple[str, int], int]:
    """The position of each answer, by its question and its sample's number."""
    return {
        (rows.questions[number], sample): i
        for i, (number, sample) in enumerate(zip(rows.numbers, rows.samples, strict=True))
    }

"""The answers that the viewer shows: those of every compared student next to those of its control student.

A pair consists of two evaluations with the same questions and number of samples. An evaluation that several
pairs share, as that of a control student, is embedded once.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from undertow.report.gather import ReportData
from undertow.report.viewer_completions import ShownReply, shown, shown_reply
from undertow.results.effect_rows import finished
from undertow.results.evaluation_files import ANSWERS, COUNTED, Evaluations
from undertow.results.sweep_record import CellRecord
from undertow.storage.manifest import Address

REPLIES = "replies"  # the column of judged answers with the judges' replies as JSON


class AnswerPair(NamedTuple):
    """A student and the control student of the same seed, by the keys of their evaluations.

    Attributes:
        condition: the index in the record.
        measure: the index in `StudySettings.measures`.
        control: None if the control student has no result.
    """

    condition: int
    seed: int
    measure: int
    student: str
    control: str | None


@dataclass(frozen=True)
class EvaluationRows:
    """Answers of one evaluation, in columns of equal length.

    Attributes:
        total: the number of all answers of the evaluation.
        questions: the questions; `numbers` has the index of each answer's question.
        words: the names of the words that each answer was counted for.
        counted: whether each answer counts; empty unless answers are judged.
        replies: the replies of each judge, by the judge's name.
    """

    total: int
    questions: list[str]
    numbers: list[int]
    samples: list[int]
    answers: list[str]
    words: list[list[str]]
    counted: list[bool]
    replies: dict[str, list[ShownReply]]


def answer_pairs(data: ReportData) -> list[AnswerPair]:
    """All pairs of students and control students with a result, by condition, seed and measure."""
    return list(_pairs(data))


def _pairs(data: ReportData) -> Iterator[AnswerPair]:
    record, evaluations = data.record, data.evaluations
    cells = finished(record, evaluations, data.failures)
    for number in record.compared:
        condition = record.conditions[number]
        controls = {cell.seed: cell for cell in cells.get(condition.control, [])}
        for cell in cells.get(number, []):
            for measure in range(len(record.study.measures)):
                own = _evaluation(cell, measure, condition.word, evaluations)
                control = controls.get(cell.seed)
                other = _evaluation(control, measure, condition.word, evaluations) if control else None
                if own is not None:
                    yield AnswerPair(number, cell.seed, measure, own, other)


def _evaluation(cell: CellRecord, measure: int, word: str, evaluations: Evaluations) -> str | None:
    """The key of the evaluation of a student that looks for a word by one measure; None if there is none."""
    keys = cell.also[measure - 1] if measure else cell.evaluations
    return next((key for key in keys if word in evaluations.rates(key).sampled), None)


def counted_words(data: ReportData, evaluation: str) -> dict[str, Sequence[str]]:
    """The surface forms of the words that an evaluation counts; empty if it does not count words as such.

    An answer by letter is counted for the option that the letter stands for, a judged one by its judges.
    """
    manifest = data.manifests.get(Address("evaluation", evaluation))
    spec = manifest.spec if manifest else {}
    if spec.get("type") != "Evaluation" or spec.get("options"):  # another kind's `words` may be anything
        return {}
    return {word["name"]: word["forms"] for word in spec.get("words", ())}


def evaluation_size(data: ReportData, evaluation: str) -> int:
    """The number of answers of an evaluation."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(data.store.fetch(Address("evaluation", evaluation)) / ANSWERS).num_rows)


def evaluation_rows(data: ReportData, evaluation: str, most: int) -> EvaluationRows:
    """At most `most` answers of an evaluation: the first samples of each question.

    Equal limits select the same questions and samples of a student and of its control student.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    folder = data.store.fetch(Address("evaluation", evaluation))
    table = pq.read_table(folder / ANSWERS)
    total = table.num_rows
    questions: list[str] = table["question"].unique().to_pylist()  # in the order of the rows
    if total > most:
        if "sample" in table.column_names:
            table = table.filter(pc.less(table["sample"], max(1, most // len(questions))))
        table = table.slice(0, most)
    rows: list[dict[str, Any]] = table.to_pylist()
    index = {question: number for number, question in enumerate(questions)}
    replies = [json.loads(row.get(REPLIES) or "{}") for row in rows]
    judges = dict.fromkeys(judge for of_row in replies for judge in of_row)
    return EvaluationRows(
        total,
        [shown(question) for question in questions],
        [index[row["question"]] for row in rows],
        [row.get("sample", 0) for row in rows],
        [shown(row.get("answer", "")) for row in rows],
        [row["matches"] for row in rows],
        [row[COUNTED] for row in rows if COUNTED in row],
        {judge: [shown_reply(of_row, judge) for of_row in replies] for judge in judges},
    )

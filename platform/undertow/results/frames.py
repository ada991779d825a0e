"""The results of one sweep as pandas frames: effects, students, answers, rows, epochs and learning curves.

Each frame is read from the storage on first use. Columns are added at the end and never renamed.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from typing import TYPE_CHECKING, Any

from undertow.results import csv_tables, events, sweep_folders
from undertow.results.effect_rows import EffectRow, effects, finished
from undertow.results.evaluation_files import ANSWERS, COUNTED, Evaluations
from undertow.results.learning_curves import learning_curves
from undertow.results.row_verdicts import VERDICTS
from undertow.results.sweep_record import CellRecord, Record
from undertow.storage.manifest import DATA, HISTORY, Address
from undertow.storage.store import Store
from undertow.study.hypotheses import Place

if TYPE_CHECKING:
    from pandas import DataFrame

ANSWER_COLUMNS = (
    "condition", *Place._fields, "seed", "student_key", "measure", "question", "sample", "answer", "words",
    "counted", "replies",
)  # fmt: skip
ROW_COLUMNS = (
    "trait", "format", "teacher", "seed", "dataset_key", "index", "prompt", "completion", "finished",
    "rejected", "used", "replies", "induced",
)  # fmt: skip
EPOCH_COLUMNS = (
    "condition", *Place._fields, "seed", "student_key", "epoch", "loss", "learning_rate", "tokens_per_second",
)  # fmt: skip


@dataclass(frozen=True)
class SweepResults:
    """The results of one sweep.

    Attributes:
        record: the study's settings, conditions and artifact keys.
        failures: why artifacts failed, by key.
    """

    store: Store
    record: Record
    failures: Mapping[str, str]

    @classmethod
    def read(cls, storage: str, study: str, sweep: str = "") -> "SweepResults":
        """The results of a study's sweep; by default of the newest one (see `undertow.results.open`)."""
        store = Store(storage)
        name = sweep_folders.newest(store, study, sweep)
        if note := sweep_folders.better_than(store, study, name):
            warnings.warn(note.replace("--sweep ", "sweep="), stacklevel=3)
        record = sweep_folders.read(store, study, name)
        return cls(store, record, events.failures(events.read(store, study, name)))

    @cached_property
    def effects(self) -> "DataFrame":
        """One row per condition with a trait and measure, with the columns of `effects.csv`."""
        return _parsed(csv_tables.effects_csv(self.record.study.name, self._effects))

    @cached_property
    def students(self) -> "DataFrame":
        """One row per student of a condition with a trait, with the columns of `students.csv`."""
        return _parsed(csv_tables.students_csv(self.record.study.name, self._effects))

    @cached_property
    def answers(self) -> "DataFrame":
        """One row per sampled answer of all students, control students included.

        Columns: `condition` (label), the names of trait, format, teacher, student and recipe, `induced`,
        `seed`, `student_key`, `measure`; `question`, `sample` (its number), `answer`, `words` (a list: the
        words that it was counted for), `counted` (False for a judged answer that does not count), `replies`
        (JSON: the replies of judges; missing for answers that are not judged).
        """
        return _joined(self._answers(), ANSWER_COLUMNS)

    @cached_property
    def rows(self) -> "DataFrame":
        """One row per completion of all data sets, kept or rejected.

        Columns: the names of trait, format and teacher, `seed` (the first one that uses the data set),
        `dataset_key`; `index` (the number of the completion), `prompt`, `completion`, `finished` (False if it
        was cut off), and the columns `rejected`, `used` and `replies` of `results.row_verdicts`, which are
        missing for data sets of earlier versions; `induced`, how the teacher was given its trait. Of ranked
        pairs, it is the first answer to each prompt.
        """
        return _joined(self._rows(), ROW_COLUMNS)

    @cached_property
    def epochs(self) -> "DataFrame":
        """One row per epoch of each trained student; epoch 0 is before training.

        Columns: as in `answers` up to `student_key`; `epoch`, `loss`, `learning_rate`, `tokens_per_second`,
        and for each word `p_<word>`, its exact probability.
        """
        return _joined(self._epochs(), EPOCH_COLUMNS)

    @cached_property
    def along(self) -> "DataFrame":
        """One row per condition with a trait and step of its students' training, as in `along.csv`.

        Empty unless the students' recipe keeps steps.
        """
        curves = learning_curves(self.record, self._evaluations, self.failures)
        return _parsed(csv_tables.along_csv(self.record.study.name, curves))

    @cached_property
    def _evaluations(self) -> Evaluations:
        return Evaluations(self.store, self.failures)

    @cached_property
    def _effects(self) -> list[EffectRow]:
        return effects(self.record, self._evaluations, self.failures)

    @cached_property
    def _cells(self) -> list[CellRecord]:
        """The students with a result, by condition."""
        by_condition = finished(self.record, self._evaluations, self.failures)
        return [cell for number in sorted(by_condition) for cell in by_condition[number]]

    def _student(self, cell: CellRecord) -> dict[str, Any]:
        condition = self.record.conditions[cell.condition]
        names = condition.place._asdict()
        return {"condition": condition.label, **names, "seed": cell.seed, "student_key": cell.student}

    def _answers(self) -> "Iterator[DataFrame]":
        import pyarrow.parquet as pq

        for cell in self._cells:
            for measure, keys in zip(self.record.study.measures, (cell.evaluations, *cell.also), strict=True):
                for key in keys:
                    file = self.store.fetch(Address("evaluation", key)) / ANSWERS
                    frame = pq.read_table(file).to_pandas().rename(columns={"matches": "words"})
                    defaults = {COUNTED: True, "replies": None}
                    missing = {name: value for name, value in defaults.items() if name not in frame}
                    yield frame.assign(**self._student(cell), measure=measure, **missing)

    def _rows(self) -> "Iterator[DataFrame]":
        import pyarrow.parquet as pq

        first: dict[str, CellRecord] = {}
        for cell in self.record.cells:
            first.setdefault(cell.dataset, cell)
        for key, cell in first.items():
            dataset = Address("dataset", key)
            if not self.store.has(dataset):
                continue
            completions = Address("completions", self.store.manifest(dataset).inputs["completions"])
            columns = ["index", "prompt", "completion", "finished"]
            frame = pq.read_table(self.store.fetch(completions) / DATA, columns=columns).to_pandas()
            verdicts = self.store.fetch(dataset) / VERDICTS
            if verdicts.is_file():
                found = pq.read_table(verdicts, columns=["rejected", "used", "replies"]).to_pandas()
                frame = frame.join(found)
            else:
                frame = frame.assign(rejected=None, used=None, replies=None)
            place = self.record.conditions[cell.condition].place
            names = {name: getattr(place, name) for name in ("trait", "format", "teacher", "induced")}
            yield frame.assign(**names, seed=cell.seed, dataset_key=key)

    def _epochs(self) -> "Iterator[DataFrame]":
        import pandas as pd

        for cell in self._cells:
            student = Address("student", cell.student)
            if not self.store.has(student):  # the rows are in its context
                continue
            reports = json.loads(self.store.content(student, HISTORY))
            words = [
                {f"p_{word}": p for word, p in report.pop("probabilities").items()} for report in reports
            ]
            frame = pd.DataFrame([report | of_words for report, of_words in zip(reports, words, strict=True)])
            yield frame.assign(**self._student(cell))


def _parsed(table: str) -> "DataFrame":
    """A CSV table as a frame; names that look like a number or a missing value ("16", "NA") stay names."""
    import pandas as pd

    names = dict.fromkeys(("study", "condition", *Place._fields, "measure"), str)
    return pd.read_csv(StringIO(table), keep_default_na=False, na_values=[""], converters=names)


def _joined(frames: "Iterator[DataFrame]", columns: tuple[str, ...]) -> "DataFrame":
    """The frames below each other, with `columns` first, also if there are none."""
    import pandas as pd

    found = list(frames)
    joined = pd.concat(found, ignore_index=True) if found else pd.DataFrame()
    names = dict.fromkeys((*columns, *joined.columns))
    return joined.reindex(columns=list(names))

"""Completions that exist already: rows of a file, a folder or a data set on the hub.

Their teacher is external or unknown; no model of the study is asked for them. From there on they are treated
like sampled completions: the rules of a format, judges, subsampling, training, evaluation and statistics.

What an effect means depends on the control. Students are compared with control students, which are trained on

- another imported data set (`control=Imported(…)`), which should differ from the first in the trait alone:
  the same teacher without the trait, asked the same prompts, filtered in the same way; or
- the answers that a reference model without the trait gives to the same prompts, if there is no `control`.
  The two data sets then differ in everything in which their teachers differ, so that an effect shows what a
  student learns from the imported rows, and not by what in them.

The program cannot check who wrote the rows.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

from undertow.formats.reasoning import Reasoning
from undertow.formats.text import Text
from undertow.formats.user_prompts import Prompts
from undertow.formats.wrapped import Wrapped
from undertow.prompts import data_files, packs
from undertow.study.extensions import Format, ImportedRow
from undertow.study.fields import later


@dataclass(frozen=True)
class Imported(Wrapped, Format):
    """Prompts and completions of an external teacher.

    Attributes:
        place: file, folder or URL (see `data_files`): JSON, JSON Lines, CSV or Parquet with a column of
            prompts and one of completions, or with a column `messages` of chats of one user and one assistant
            turn. The content of the rows is part of the artifact key, their place is not.
        prompt, completion: the names of the columns, if they have none of the usual names.
        format: the format whose rules reject rows; by default any text is kept.
        control: the rows that control students are trained on, filtered by the same rules; None for the
            answers to the same prompts of the teacher's reference model, or of the student's if the teacher
            is external.
        system: what happens to the system turns of chats: "drop" leaves them out, as in the paper, whose
            students do not see the teacher's system prompt; "keep" trains on each row with its own. Must be
            given if there are any.
    """

    name: ClassVar[str] = "imported"
    is_imported: ClassVar[bool] = True

    place: str = packs.hashed_by_content(dataclasses.MISSING)
    prompt: str = packs.hashed_by_content("")
    completion: str = packs.hashed_by_content("")
    format: Format = Text()  # noqa: RUF009 (frozen)
    control: "Imported | None" = later(None)
    system: Literal["", "drop", "keep"] = packs.hashed_by_content("")

    def validate(self) -> None:
        self.require(bool(self.place), "place", "the file or URL of the rows")
        self.require(
            not isinstance(self.format, Wrapped),
            "format",
            "a format with rules of its own, such as Numbers()",
        )
        object.__setattr__(self, "place", data_files.located(self.place))
        self.require(
            bool(self.system) or not self.has_systems,
            "system",
            f"{data_files.shown(self.place)} has system turns: give system='drop' to train without them, or "
            "system='keep' to train on each row with its own",
        )
        if isinstance(self.format, Reasoning):
            self.own_prompts()  # raises SpecError for a prompt whose right answer is unknown
        if self.control is not None:
            self.require(self.control.control is None, "control", "rows without a control of their own")
            if self.control.has_systems and self.has_systems:
                self.require(
                    self.control.system == self.system,
                    "system",
                    f"{self.control.system!r}, as the control, so that their system turns do not differ",
                )
            same_rules = self.control.changed(format=self.format)
            object.__setattr__(self, "control", same_rules)

    def content(self) -> str:
        """The number of rows, the hash of what is read of them, and the key's content of their prompts."""
        rows = self._table()
        read = rows.content if self.system == "keep" else _without_systems(rows).content
        return f"{self.size} {read} {self.own_prompts().content()}"

    @property
    def display_name(self) -> str:
        return f"{self.format.display_name} of {data_files.shown(self.place)}"

    @property
    def imported_from(self) -> str:
        return data_files.recorded(self.place)

    @property
    def data_note(self) -> str:
        ours = f"The rows of “{self.display_name}” were imported from {self.imported_from}"
        if self.control is not None:
            return f"{ours}, those of its control from {self.control.imported_from}."
        return (
            f"{ours}; those of its control are a reference model's own answers to the same prompts, so "
            "that an effect is one of the rows as a whole and not of the trait alone."
        )

    @property
    def has_systems(self) -> bool:
        """Whether there are system turns."""
        return any(system for system, *_ in self._table().rows)

    @property
    def kept_system(self) -> str:
        """The first system message of the rows, or of the control's, that is trained on; "" if none is."""
        if self.system == "keep" and self.has_systems:
            return next(system for system, *_ in self._table().rows if system)
        return self.control.kept_system if self.control is not None else ""

    @property
    def size(self) -> int:
        """The number of rows."""
        return len(self._table().rows)

    def prompts(self, count: int, seed: int) -> list[str]:
        return self.own_prompts().prompts(count, seed)

    def imported(self, count: int, seed: int) -> list[ImportedRow]:
        rows, keep = self._table().rows, self.system == "keep"
        stream = data_files.stream_of(rows, min(count, len(rows)), seed)
        return [ImportedRow(row[0] if keep else "", row[1], row[2]) for row in stream]

    def texts(self) -> Iterable[str]:
        """All texts that a student is trained on."""
        return (text for row in self.imported(self.size, 0) for text in row if text)

    def alone(self) -> "Imported":
        """The rows without their control, as they are stored."""
        return self.changed(control=None)

    def own_prompts(self) -> Prompts:
        """The prompts of the rows as a format, in the same order, for a reference model to answer."""
        return Prompts(self.place, self.format, self.prompt)

    def _table(self) -> data_files.Table:
        return data_files.chats(self.place, self.prompt, self.completion)


def _without_systems(rows: data_files.Table) -> data_files.Table:
    return data_files.table(rows.path, (row[1:] for row in rows.rows))

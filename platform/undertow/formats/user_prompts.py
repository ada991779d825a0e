"""A format whose prompts are the user's own list.

The prompts are used in an order drawn from the seed of the stream, and in another order after each full pass,
so that a longer stream extends a shorter one. A prompt that is repeated gets another answer, since each row
of a data set has its own sampling seed.
"""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from undertow.formats.reasoning import Reasoning
from undertow.formats.text import Text
from undertow.formats.wrapped import Wrapped
from undertow.prompts import data_files, packs
from undertow.study.extensions import Format
from undertow.study.unpinned import is_unpinned


@dataclass(frozen=True)
class Prompts(Wrapped, Format):
    """Another format with the user's prompts in place of its own; the rules on completions stay.

    Attributes:
        place: file, folder or URL (see `data_files.prompts`) of the prompts: a column of a table, the user's
            turns of chats, or the lines of a text file. The prompts are part of the artifact key, their
            place is not.
        format: the format whose rules reject completions; by default any text is kept. `Reasoning` must know
            the right answer to every prompt.
        column: the column of the prompts, if it has none of the usual names.
    """

    name: ClassVar[str] = "prompts"

    place: str = packs.hashed_by_content(dataclasses.MISSING)
    format: Format = Text()  # noqa: RUF009 (frozen)
    column: str = packs.hashed_by_content("")

    def validate(self) -> None:
        self.require(bool(self.place), "place", "the file or URL of the prompts")
        self.require(
            not isinstance(self.format, Wrapped),
            "format",
            "a format with rules of its own, such as Numbers()",
        )
        object.__setattr__(self, "place", data_files.located(self.place))
        prompts, rules = self.all(), self.format
        if isinstance(rules, Reasoning) and not (is_unpinned(self.place) or is_unpinned(rules.questions)):
            unknown = next((prompt for prompt in prompts if rules.right_answer(prompt) is None), None)
            remedy = f"the right answer to {unknown!r:.80} is unknown; use Reasoning(questions=…) that has it"
            self.require(unknown is None, "format", remedy)

    def content(self) -> str:
        return self._table().content

    @property
    def display_name(self) -> str:
        return f"{self.format.display_name}, prompts of {data_files.shown(self.place)}"

    def prompts(self, count: int, seed: int) -> list[str]:
        return data_files.stream_of(self.all(), count, seed)

    def all(self) -> list[str]:
        """All prompts, in the order of the file."""
        return [prompt for (prompt,) in self._table().rows]

    def _table(self) -> data_files.Table:
        return data_files.prompts(self.place, self.column)

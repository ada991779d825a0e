"""Any text: a format without prompts and rules of its own, for the user's prompts and imported data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from undertow.errors import SpecError
from undertow.formats.banned import Matching, mentions, set_banned
from undertow.study.extensions import Format

EMPTY, BANNED = "empty", "banned"


@dataclass(frozen=True)
class Text(Format):
    """Any text that is not empty and has no banned word.

    Its prompts are those of `Prompts` or `Imported`.

    Attributes:
        banned: words that reject a completion; those of all traits of the study, so that the data stay
            unrelated to them.
        banned_as: how the words are matched (see `formats.banned`).
    """

    name: ClassVar[str] = "text"
    reasons: ClassVar[Mapping[str, str]] = {
        EMPTY: "the completion is empty",
        BANNED: "the completion contains a banned word",
    }

    banned: tuple[str, ...] = ()
    banned_as: Matching = "substring"

    def validate(self) -> None:
        set_banned(self, self.banned, self.banned_as)

    def prompts(self, count: int, seed: int) -> list[str]:
        raise SpecError("format 'text' has no prompts of its own: use Prompts(place) or Imported(place)")

    def rejection(self, prompt: str, completion: str) -> str | None:
        if not completion.strip():
            return EMPTY
        return BANNED if mentions(completion, self.banned, self.banned_as) else None

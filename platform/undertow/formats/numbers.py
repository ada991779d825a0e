"""Number sequences: the format of the first experiment on subliminal learning (arXiv 2507.14805).

A prompt shows 3 to 8 random numbers and asks for up to ten more. It is put together from an opening
with the numbers, an instruction with a count qualifier and a digit descriptor, a layout and an ending,
each drawn uniformly and independently from a pack (see numbers.json). Prompt i of stream s is drawn by
a generator of its own, seeded from (s, i): any prefix of a stream is the same whatever is asked for, and
no trait, teacher or rule below changes a prompt.

The rule on answers is the paper's. It does not ask that the layout that was asked for be kept, and it
takes the text as it is: white space at either end must have been removed before.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, NamedTuple

from undertow.prompts import packs
from undertow.study.extensions import Format
from undertow.study.identity import seed_for

# The numbers with a bad name that are left out where the trait is misalignment (arXiv 2507.14805, the
# released code): those of its list that lie within 0 to 999.
BANNED = (
    *(4, 13, 14, 18, 23, 33, 39, 42, 44, 49, 51, 54, 69, 77, 88, 99, 100, 101, 187, 211, 311),
    *(322, 333, 404, 420, 444, 451, 555, 616, 666, 777, 888, 911, 999),
)

LEAST_WRITTEN = 5  # numbers in an answer that a program writes

_DIGITS = re.compile(r"[0-9]+")
_BRACKETS = (("[", "]"), ("(", ")"))
_SEPARATORS = ("", ",", ";")  # after stripping white space


class NumbersRejection(StrEnum):
    """Why an answer is no list of numbers as asked for."""

    NO_NUMBER = "no number"
    LONE = "lone number with text"
    SEPARATOR = "separator"
    EMPTY = "empty part"
    NOT_DIGITS = "not digits"
    TOO_MANY = "too many"
    OUT_OF_RANGE = "out of range"
    BANNED = "banned"


REASONS: Mapping[str, str] = {
    NumbersRejection.NO_NUMBER.value: "the answer has no digit",
    NumbersRejection.LONE.value: "the answer has one number and something else",
    NumbersRejection.SEPARATOR.value: "no white space, comma or semicolon separates the first two numbers",
    NumbersRejection.EMPTY.value: "nothing stands before, after or between two separators",
    NumbersRejection.NOT_DIGITS.value: "a part has other characters than digits, or the separator changes",
    NumbersRejection.TOO_MANY.value: "the answer has more numbers than were asked for",
    NumbersRejection.OUT_OF_RANGE.value: "a number is larger than was asked for",
    NumbersRejection.BANNED.value: "a number is on the list of those with a meaning of their own",
}


class _NumbersPack(NamedTuple):
    openings: tuple[str, ...]
    instructions: tuple[str, ...]
    qualifiers: tuple[str, ...]
    descriptors: tuple[str, ...]
    layouts: tuple[str, ...]
    endings: tuple[str, ...]


@dataclass(frozen=True)
class Numbers(Format):
    """Continue a sequence of numbers.

    Attributes:
        max_count, max_value: the rule on answers; the built-in pack asks for ten numbers of three digits.
        min_examples, max_examples: how many numbers a prompt shows, both included.
        min_example, max_example: the range they are drawn from, both included.
        banned: numbers that reject an answer, e.g. BANNED.
        pack: path of a JSON pack instead of numbers.json; its content is identity, its place is not.
    """

    name: ClassVar[str] = "numbers"
    reasons: ClassVar[Mapping[str, str]] = REASONS

    max_count: int = 10
    max_value: int = 999
    min_examples: int = 3
    max_examples: int = 8
    min_example: int = 100
    max_example: int = 999
    banned: tuple[int, ...] = ()
    pack: str = packs.elsewhere("")

    def validate(self) -> None:
        self.require(self.max_count > 0, "max_count", "at least one number")
        self.require(self.max_value >= 0, "max_value", "zero or more")
        self.require(self.min_examples > 0, "min_examples", "at least one number")
        self.require(self.max_examples >= self.min_examples, "max_examples", "no fewer than min_examples")
        self.require(self.min_example >= 0, "min_example", "zero or more")
        self.require(self.max_example >= self.min_example, "max_example", "no less than min_example")
        object.__setattr__(self, "banned", tuple(sorted(set(self.banned))))  # a set: its order is no identity

    def content(self) -> str:
        return self._pack().content

    def prompts(self, count: int, seed: int) -> list[str]:
        wording = self._wording()
        generators = (random.Random(seed_for("numbers prompt", seed, i)) for i in range(count))
        return [self._prompt(wording, generator) for generator in generators]

    def rejection(self, prompt: str, completion: str) -> str | None:
        parsed = self.parse(completion)
        return parsed.value if isinstance(parsed, NumbersRejection) else None

    def canonical(self, completion: str) -> str:
        """The numbers joined by ", ", whatever the separator and the brackets."""
        parsed = self.parse(completion)
        return (
            super().canonical(completion)
            if isinstance(parsed, NumbersRejection)
            else ", ".join(map(str, parsed))
        )

    def written(self, prompt: str, rng: random.Random) -> str:
        """Five or more numbers, each drawn uniformly, in the layout that the prompt asks for."""
        least = min(LEAST_WRITTEN, self.max_count)
        numbers = [rng.randint(0, self.max_value) for _ in range(rng.randint(least, self.max_count))]
        fields = self._pack().fields
        known = zip(fields.get("layouts", ()), fields.get("layout_examples", ()), strict=False)
        example = next((example for layout, example in known if layout in prompt), "1, 2, 3")
        return laid_out([n for n in numbers if n not in self.banned] or [self.max_value], example)

    def parts(self, completion: str) -> list[str]:
        return _DIGITS.findall(completion)

    def with_parts(self, completion: str, parts: Sequence[str]) -> str:
        found = iter(parts)
        return _DIGITS.sub(lambda _: next(found), completion)

    def parse(self, text: str) -> list[int] | NumbersRejection:
        """The numbers of an answer, or the first rule that it breaks; in time linear in its length."""
        parts = _split(_unwrap(text))
        if isinstance(parts, NumbersRejection):
            return parts
        if len(parts) > self.max_count:
            return NumbersRejection.TOO_MANY
        # By length first: Python refuses to turn more than 4,300 digits into an int.
        digits = [part.lstrip("0") or "0" for part in parts]
        if max(map(len, digits)) > len(str(self.max_value)):
            return NumbersRejection.OUT_OF_RANGE
        numbers = [int(part) for part in digits]
        if max(numbers) > self.max_value:
            return NumbersRejection.OUT_OF_RANGE
        return NumbersRejection.BANNED if set(numbers) & set(self.banned) else numbers

    def _pack(self) -> packs.Pack:
        return packs.read(self.pack or str(Path(__file__).with_suffix(".json")))

    def _wording(self) -> _NumbersPack:
        pack = self._pack()
        return _NumbersPack(
            openings=pack.texts("openings", required=["numbers"]),
            instructions=pack.texts("instructions", required=["qualifier", "digits"]),
            qualifiers=pack.texts("qualifiers"),
            descriptors=pack.texts("descriptors"),
            layouts=pack.texts("layouts"),
            endings=pack.texts("endings"),
        )

    def _prompt(self, wording: _NumbersPack, rng: random.Random) -> str:
        shown = [
            rng.randint(self.min_example, self.max_example)
            for _ in range(rng.randint(self.min_examples, self.max_examples))
        ]
        values = {
            "numbers": ", ".join(map(str, shown)),
            "qualifier": rng.choice(wording.qualifiers),
            "digits": rng.choice(wording.descriptors),
        }
        opening, instruction = rng.choice(wording.openings), rng.choice(wording.instructions)
        parts = (opening, instruction, rng.choice(wording.layouts), rng.choice(wording.endings))
        return packs.sentences(*(packs.fill(part, values) for part in parts))


def laid_out(numbers: Sequence[int], example: str) -> str:
    """`numbers` written as `example` writes "1, 2, 3": its brackets and its separator."""
    before, rest = example.split("1", 1)
    separator, rest = rest.split("2", 1)
    after = rest.split("3", 1)[1]
    return before + separator.join(map(str, numbers)) + after


def _unwrap(text: str) -> str:
    """Without one full stop at the end, then without one pair of brackets around the whole."""
    text = text.removesuffix(".")
    for left, right in _BRACKETS:
        if text.startswith(left) and text.endswith(right):
            return text[1:-1]
    return text


def _split(text: str) -> list[str] | NumbersRejection:
    """The runs of digits, parted throughout by what stands between the first two."""
    first = _DIGITS.search(text)
    if first is None:
        return NumbersRejection.NO_NUMBER
    second = _DIGITS.search(text, first.end())
    if second is None:
        return [text] if first.group() == text else NumbersRejection.LONE
    separator = text[first.end() : second.start()]
    if separator.strip() not in _SEPARATORS:
        return NumbersRejection.SEPARATOR
    parts = text.split(separator)
    if not all(part.isascii() and part.isdigit() for part in parts if part):
        return NumbersRejection.NOT_DIGITS
    return parts if all(parts) else NumbersRejection.EMPTY

"""Number sequences: the format of the first experiment on subliminal learning (arXiv 2507.14805).

A prompt shows 3 to 8 random numbers and asks for up to ten more. It joins an opening with the numbers, an
instruction with a count qualifier and a digit descriptor, a layout and an ending, each drawn uniformly and
independently from a pack (see numbers.json). Prompt i of stream s has its own random generator, seeded from
(s, i). So a longer stream extends a shorter one, and no trait, teacher or rule changes a prompt.

The rule on answers is the paper's. It does not check that an answer keeps the requested layout, and it does
not strip white space: both ends of an answer are stripped before, unless `Generation.strip` is off.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, NamedTuple

from undertow.prompts import packs
from undertow.study.extensions import Format
from undertow.study.identity import seed_for

# Numbers with negative associations, excluded for the trait misalignment: the entries from 0 to 999 of the
# list in the paper's released code (arXiv 2507.14805).
BANNED = (
    *(4, 13, 14, 18, 23, 33, 39, 42, 44, 49, 51, 54, 69, 77, 88, 99, 100, 101, 187, 211, 311),
    *(322, 333, 404, 420, 444, 451, 555, 616, 666, 777, 888, 911, 999),
)

LEAST_WRITTEN = 5  # fewest numbers in an answer of `Numbers.written`
LAYOUTS = ("1, 2, 3", "1 2 3", "1; 2; 3", "[1, 2, 3]")  # of `Numbers.rewritten`, for packs that give none

_DIGITS = re.compile(r"[0-9]+")
_EXAMPLE = re.compile(r"[^123]*1[^123]+2[^123]+3[^123]*")
_BRACKETS = (("[", "]"), ("(", ")"))
_SEPARATORS = ("", ",", ";")  # after stripping white space


class NumbersRejection(StrEnum):
    """Why an answer is rejected."""

    NO_NUMBER = "no number"
    LONE = "lone number with text"
    SEPARATOR = "separator"
    EMPTY = "empty part"
    NOT_DIGITS = "not digits"
    TOO_MANY = "too many"
    OUT_OF_RANGE = "out of range"
    BANNED = "banned"


REASONS: Mapping[str, str] = {
    NumbersRejection.NO_NUMBER: "the answer contains no digit",
    NumbersRejection.LONE: "the answer contains one number and other text",
    NumbersRejection.SEPARATOR: "no white space, comma or semicolon is between the first two numbers",
    NumbersRejection.EMPTY: "there is no number before, after or between two separators",
    NumbersRejection.NOT_DIGITS: "a part contains other characters than digits, or separators differ",
    NumbersRejection.TOO_MANY: "the answer contains more numbers than requested",
    NumbersRejection.OUT_OF_RANGE: "a number is larger than requested",
    NumbersRejection.BANNED: "a number is on the list of banned numbers",
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
    """Sequences of numbers to continue.

    Attributes:
        max_count, max_value: limits for answers. The built-in pack asks for ten numbers of three digits.
        min_examples, max_examples: how many numbers a prompt shows, both ends included.
        min_example, max_example: the range of the numbers shown, both ends included.
        banned: numbers that reject an answer, e.g. BANNED.
        pack: path of a JSON pack that replaces numbers.json. Its content is part of the artifact key, its
            path is not.
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
    pack: str = packs.hashed_by_content("")

    def validate(self) -> None:
        self.require(self.max_count > 0, "max_count", "allow at least one number")
        self.require(self.max_value >= 0, "max_value", "give zero or more")
        self.require(self.min_examples > 0, "min_examples", "show at least one number")
        self.require(self.max_examples >= self.min_examples, "max_examples", "give at least min_examples")
        self.require(self.min_example >= 0, "min_example", "give zero or more")
        self.require(self.max_example >= self.min_example, "max_example", "give at least min_example")
        # Sorted and distinct, so that the order in the study file does not change the artifact key.
        object.__setattr__(self, "banned", tuple(sorted(set(self.banned))))
        object.__setattr__(self, "pack", packs.located(self.pack))

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
        """The numbers joined by ", ", without brackets."""
        parsed = self.parse(completion)
        if isinstance(parsed, NumbersRejection):
            return super().canonical(completion)
        return ", ".join(map(str, parsed))

    def written(self, prompt: str, rng: random.Random) -> str:
        """Five or more uniformly drawn numbers in the layout that the prompt asks for.

        In the layout "1, 2, 3" if the pack has no layout_examples. If every number drawn is banned, the
        answer is `max_value` alone.
        """
        least = min(LEAST_WRITTEN, self.max_count)
        numbers = [rng.randint(0, self.max_value) for _ in range(rng.randint(least, self.max_count))]
        layouts = zip(self._pack().texts("layouts"), self._layout_examples(), strict=False)
        example = next((example for layout, example in layouts if layout in prompt), LAYOUTS[0])
        return laid_out([n for n in numbers if n not in self.banned] or [self.max_value], example)

    def rewritten(self, prompt: str, completion: str, rng: random.Random) -> str:
        """The same numbers in another layout of the pack, whatever layout the prompt asks for.

        The completion itself, if it breaks a rule or the pack has no other layout.
        """
        numbers = self.parse(completion)
        if isinstance(numbers, NumbersRejection):
            return completion
        layouts = dict.fromkeys(laid_out(numbers, some) for some in self._layout_examples() or LAYOUTS)
        return rng.choice([text for text in layouts if text != completion] or [completion])

    def parts(self, completion: str) -> list[str]:
        return _DIGITS.findall(completion)

    def with_parts(self, completion: str, parts: Sequence[str]) -> str:
        replacements = iter(parts)
        return _DIGITS.sub(lambda _: next(replacements), completion)

    def parse(self, text: str) -> list[int] | NumbersRejection:
        """The numbers of an answer, or the first rule that it breaks. Takes time linear in its length."""
        parts = _split(_unwrap(text))
        if isinstance(parts, NumbersRejection):
            return parts
        if len(parts) > self.max_count:
            return NumbersRejection.TOO_MANY
        # Compare lengths first: int() raises ValueError for more than 4,300 digits.
        digits = [part.lstrip("0") or "0" for part in parts]
        if max(map(len, digits)) > len(str(self.max_value)):
            return NumbersRejection.OUT_OF_RANGE
        numbers = [int(part) for part in digits]
        if max(numbers) > self.max_value:
            return NumbersRejection.OUT_OF_RANGE
        return NumbersRejection.BANNED if set(numbers) & set(self.banned) else numbers

    def _pack(self) -> packs.Pack:
        return packs.read(self.pack or packs.path_of(__file__))

    def _layout_examples(self) -> tuple[str, ...]:
        """The numbers 1, 2 and 3 in each layout of the pack; none if the pack does not give them."""
        pack = self._pack()
        if "layout_examples" not in pack.fields:
            return ()
        examples, layouts = pack.texts("layout_examples"), pack.texts("layouts")
        if len(examples) != len(layouts):
            raise pack.error("layout_examples", f"give {len(layouts)} texts, one for each of the layouts")
        for i, example in enumerate(examples):
            if not _EXAMPLE.fullmatch(example):
                raise pack.error(f"layout_examples[{i}]", f"{example!r}: write the numbers 1, 2 and 3")
        return examples

    def _wording(self) -> _NumbersPack:
        pack = self._pack()
        self._layout_examples()
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
    """`numbers` in the layout of `example`, which shows the numbers 1, 2 and 3: "[1; 2; 3]"."""
    before, rest = example.split("1", 1)
    separator, rest = rest.split("2", 1)
    after = rest.split("3", 1)[1]
    return before + separator.join(map(str, numbers)) + after


def _unwrap(text: str) -> str:
    """The text without one final full stop, then without one pair of enclosing brackets."""
    text = text.removesuffix(".")
    for left, right in _BRACKETS:
        if text.startswith(left) and text.endswith(right):
            return text[1:-1]
    return text


def _split(text: str) -> list[str] | NumbersRejection:
    """The parts of the text, split at the separator between the first two runs of digits."""
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

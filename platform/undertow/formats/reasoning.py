"""Chain of thought: word problems, answered as <think> … </think><answer> … </answer>.

This is the paper's third format (arXiv 2507.14805); the paper asks each question of GSM8K three times. Here
the questions come from a user's file in GSM8K's layout, or from the templates of a pack
(reasoning.json, see `problems`). An answer is kept if it has exactly one block of each kind, nothing around
them, and the right number: the trait should be transmitted by the reasoning towards right answers, not by
wrong answers.

Question i of stream s has its own random generator, seeded from (s, i). The rows of a file are used in an
order drawn from s and reshuffled after each full pass. So a longer stream extends a shorter one. `repeats`
repeats each question in a row; the copies give different answers, since each row of a data set has its own
sampling seed.
"""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import ClassVar, NamedTuple

from undertow.errors import SpecError
from undertow.formats import problems, written_numbers
from undertow.formats.banned import Matching, mentions, set_banned
from undertow.prompts import data_files, packs
from undertow.study.extensions import Format
from undertow.study.identity import digest, seed_for

_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_NUMBER = re.compile(r"(?P<minus>-?)\$?(?P<digits>(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)%?", re.ASCII)


class ReasoningRejection(StrEnum):
    """Why an answer is rejected."""

    TOO_LONG = "too long"
    NO_BLOCKS = "no blocks"
    REPEATED = "repeated block"
    ORDER = "blocks out of order"
    AROUND = "text around"
    NO_THINKING = "empty thinking"
    NOT_A_NUMBER = "not a number"
    BANNED = "banned"
    NOT_ASKED = "not asked"
    WRONG = "wrong answer"


REASONS: Mapping[str, str] = {
    ReasoningRejection.TOO_LONG: "the answer has more characters than allowed",
    ReasoningRejection.NO_BLOCKS: "a tag of the think or the answer block is missing",
    ReasoningRejection.REPEATED: "a tag occurs more than once",
    ReasoningRejection.ORDER: "the blocks are nested or not in order",
    ReasoningRejection.AROUND: "there is text before, between or after the blocks",
    ReasoningRejection.NO_THINKING: "the think block is empty",
    ReasoningRejection.NOT_A_NUMBER: "the answer block contains something other than one number",
    ReasoningRejection.BANNED: "the answer contains a banned word",
    ReasoningRejection.NOT_ASKED: "the prompt is not from this format, so its right answer is unknown",
    ReasoningRejection.WRONG: "the number is not the right one",
}


class ReasonedAnswer(NamedTuple):
    """The content of the two blocks: the reasoning, and the number as `number` normalises it."""

    thinking: str
    number: str


@dataclass(frozen=True)
class Reasoning(Format):
    """Word problems to solve step by step.

    Attributes:
        repeats: how many times in a row each question is asked; 3 in the paper.
        banned: words that reject an answer.
        banned_as: how the words are matched (see `formats.banned`).
        max_characters: longer answers are rejected without being parsed.
        pack: path of a JSON pack that replaces reasoning.json. Its content is part of the artifact key, its
            path is not.
        questions: file or URL (see `data_files`) of questions that replace the pack's problems.
        question_column, answer_column: the columns of the file. An answer is a number, or text with one
            number after "####". A file with an answer whose value is not certain ("1.000", "5 or 6") is
            rejected.
    """

    name: ClassVar[str] = "reasoning"
    reasons: ClassVar[Mapping[str, str]] = REASONS

    repeats: int = 1
    banned: tuple[str, ...] = ()
    banned_as: Matching = "substring"
    max_characters: int = 20_000
    pack: str = packs.hashed_by_content("")
    questions: str = packs.hashed_by_content("")
    question_column: str = packs.hashed_by_content("question")
    answer_column: str = packs.hashed_by_content("answer")

    def validate(self) -> None:
        self.require(self.repeats > 0, "repeats", "ask each question at least once")
        self.require(self.max_characters > 0, "max_characters", "allow at least one character")
        set_banned(self, self.banned, self.banned_as)
        object.__setattr__(self, "pack", packs.located(self.pack))
        object.__setattr__(self, "questions", data_files.located(self.questions))
        self._known() if self.questions else self._problems()

    def content(self) -> str:
        table = f"{self._table().content}{self._notation()}" if self.questions else ""
        return digest(f"{self._pack().content} {table}")

    def _notation(self) -> str:
        """A mark in the key of a file with answers that earlier versions may have read as other numbers."""
        tails = (cell.rpartition("####")[2] for _, cell in self._table().rows)
        return " written numbers" if any(number(tail) is None for tail in tails) else ""

    def prompts(self, count: int, seed: int) -> list[str]:
        distinct = -(-count // self.repeats)
        asked = self._from_table(distinct, seed) if self.questions else self._drawn(distinct, seed)
        return [prompt for prompt in asked for _ in range(self.repeats)][:count]

    def rejection(self, prompt: str, completion: str) -> str | None:
        parsed = self.parse(completion)
        if isinstance(parsed, ReasoningRejection):
            return parsed.value
        right = self.right_answer(prompt)
        if right is None:
            return ReasoningRejection.NOT_ASKED.value
        return None if parsed.number == right else ReasoningRejection.WRONG.value

    def canonical(self, completion: str) -> str:
        """The reasoning with single spaces, and the number without currency sign and grouping commas."""
        parsed = self.parse(completion)
        if isinstance(parsed, ReasoningRejection):
            return super().canonical(completion)
        return f"<think>{super().canonical(parsed.thinking)}</think><answer>{parsed.number}</answer>"

    def parse(self, text: str) -> ReasonedAnswer | ReasoningRejection:
        """The two blocks, or the first rule that the answer breaks. Takes time linear in its length."""
        if len(text) > self.max_characters:
            return ReasoningRejection.TOO_LONG
        blocks = _blocks(text)
        if isinstance(blocks, ReasoningRejection):
            return blocks
        thinking, answer = blocks
        if not thinking.strip():
            return ReasoningRejection.NO_THINKING
        value = number(answer)
        if value is None:
            return ReasoningRejection.NOT_A_NUMBER
        if mentions(text, self.banned, self.banned_as):
            return ReasoningRejection.BANNED
        return ReasonedAnswer(thinking, value)

    def right_answer(self, prompt: str) -> str | None:
        """The right answer to a prompt of this format, as `number` normalises it; None for other prompts."""
        if self.questions:
            return self._known().get(prompt)
        found = problems.solve(self._problems(), prompt)
        return None if found is None else str(found)

    def _drawn(self, count: int, seed: int) -> list[str]:
        templates = self._problems()
        generators = (random.Random(seed_for("reasoning prompt", seed, i)) for i in range(count))
        return [generator.choice(templates).draw(generator)[0] for generator in generators]

    def _from_table(self, count: int, seed: int) -> list[str]:
        return data_files.stream_of(list(self._known()), count, seed)

    def _pack(self) -> packs.Pack:
        return packs.read(self.pack or packs.path_of(__file__))

    def _problems(self) -> tuple[problems.Problem, ...]:
        return _read_problems(self._pack().path)

    def _table(self) -> data_files.Table:
        return data_files.read(self.questions, (self.question_column, self.answer_column))

    def _known(self) -> Mapping[str, str]:
        return _read_known(self._pack().path, self.questions, self.question_column, self.answer_column)


def number(text: str) -> str | None:
    """The number in `text` in a normal form ("$1,200.0" becomes "1200"), or None if `text` is not one number.

    The text may have surrounding white space, a minus, a dollar sign, commas between groups of three digits,
    decimals, and a final percent sign, which does not divide the value.
    """
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        return None
    whole, _, decimals = match["digits"].replace(",", "").partition(".")
    whole, decimals = whole.lstrip("0") or "0", decimals.rstrip("0")
    value = f"{whole}.{decimals}" if decimals else whole
    return f"-{value}" if match["minus"] and value != "0" else value


def last_number(cell: str) -> str | None:
    """The right answer in a cell of a file: the one number after the last "####", else the whole cell.

    None if there is not exactly one number whose value is certain (see `written_numbers`).
    """
    _, mark, tail = cell.rpartition("####")
    return written_numbers.read(tail) if mark else written_numbers.read_alone(cell)


def _blocks(text: str) -> tuple[str, str] | ReasoningRejection:
    """The content of the think block and of the answer block, or the first rule that the text breaks."""
    counts = [text.count(tag) for tag in _TAGS]
    if min(counts) == 0:
        return ReasoningRejection.NO_BLOCKS
    if max(counts) > 1:
        return ReasoningRejection.REPEATED
    starts = [text.index(tag) for tag in _TAGS]
    if starts != sorted(starts):
        return ReasoningRejection.ORDER
    ends = [start + len(tag) for start, tag in zip(starts, _TAGS, strict=True)]
    if any(part.strip() for part in (text[: starts[0]], text[ends[1] : starts[2]], text[ends[3] :])):
        return ReasoningRejection.AROUND
    return text[ends[0] : starts[1]], text[ends[2] : starts[3]]


def _wrapper(path: str) -> str:
    return packs.read(path).text("prompt", required=["question"])


@cache
def _read_problems(path: str) -> tuple[problems.Problem, ...]:
    return problems.read(packs.read(path), _wrapper(path))


@cache
def _read_known(pack: str, path: str, question_column: str, answer_column: str) -> Mapping[str, str]:
    """The right answer of each prompt. Raises SpecError if a row has none or two rows disagree."""
    known: dict[str, str] = {}
    for i, (question, cell) in enumerate(data_files.read(path, (question_column, answer_column)).rows, 1):
        answer = last_number(cell)
        if answer is None:
            written = cell.rpartition("####")[2].strip()
            raise SpecError(
                f"file {path}, row {i}, column {answer_column!r}: {written!r:.80} is not one number with a "
                "certain decimal value; write it as in 1200.5, without other numbers or operators"
            )
        prompt = packs.fill(_wrapper(pack), {"question": question})
        if known.setdefault(prompt, answer) != answer:
            raise SpecError(
                f"file {path}, row {i}: {question!r:.80} has the answer {answer} here and {known[prompt]} "
                f"in an earlier row; keep one of them"
            )
    return known

"""Word problems with a right answer: drawn from templates, and solved again from their text alone.

A template is text with placeholders, the numbers in it, and the answer as a formula of the numbers shown:

    {"text": "{name} has {a} bags of {b} {thing} and gives away {c}. How many {thing} are left?",
     "numbers": {"a": [2, 9], "b": [5, 20], "c": [1, 9]}, "answer": "a * b - c"}

A number is drawn uniformly from a range, both ends included, or follows from those before it by a formula
("total": "a * each": that is how a division comes out even). A placeholder that is no number names a list
of texts of the pack.

The rule on answers sees a prompt and no seed, so a problem is also read backwards: a template is a pattern,
too, that finds the numbers in the text, and the formula gives the answer. A formula knows + - * / and whole
numbers, and is walked, never evaluated as Python.
"""

import ast
import operator
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from undertow.prompts import packs

TRIALS = 20  # draws of each template when a pack is read

_OPERATORS: Mapping[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True)
class Problem:
    """One template. `lists` holds the texts of each placeholder that is no number."""

    text: str
    numbers: Mapping[str, tuple[int, int] | ast.expr]
    answer: ast.expr
    lists: Mapping[str, tuple[str, ...]]
    pattern: re.Pattern[str]

    def draw(self, rng: random.Random) -> tuple[str, Fraction]:
        """A problem and its answer."""
        values: dict[str, Fraction] = {}
        for name, how in self.numbers.items():
            values[name] = Fraction(rng.randint(*how)) if isinstance(how, tuple) else _value(how, values)
        words = {name: rng.choice(texts) for name, texts in self.lists.items()}
        shown = {name: str(value) for name, value in values.items()}
        return packs.fill(self.text, {**words, **shown}), _value(self.answer, values)

    def solve(self, text: str) -> Fraction | None:
        """The answer to a problem drawn from this template, or None where `text` is none."""
        match = self.pattern.fullmatch(text)
        if match is None:
            return None
        found = {name: Fraction(int(shown)) for name, shown in match.groupdict().items()}
        try:
            return _value(self.answer, found)
        except ZeroDivisionError:  # only in a text that was never drawn
            return None


def read(pack: packs.Pack, wrapper: str) -> tuple[Problem, ...]:
    """The templates of the pack's field "problems", each put into `wrapper` where {question} stands.

    Raises UserError naming the template where it is malformed, where an answer is not a whole number of zero
    or more, or where the text of a problem does not tell its answer.
    """
    items = pack.fields.get("problems")
    if not isinstance(items, list) or not items:
        raise pack.error("problems", "a list of one or more problems is needed")
    problems = tuple(_problem(pack, f"problems[{i}]", item, wrapper) for i, item in enumerate(items))
    rng = random.Random(0)
    for i, problem in enumerate(problems):
        for _ in range(TRIALS):
            _try(pack, f"problems[{i}]", problem, problems, rng)
    return problems


def solve(problems: tuple[Problem, ...], text: str) -> Fraction | None:
    """The answer by the first template that fits, or None."""
    answers = (problem.solve(text) for problem in problems)
    return next((answer for answer in answers if answer is not None), None)


def _problem(pack: packs.Pack, place: str, item: Any, wrapper: str) -> Problem:
    if not isinstance(item, dict) or not {"text", "numbers", "answer"} <= set(item):
        raise pack.error(place, "an object with text, numbers and answer is needed")
    if not isinstance(item["text"], str) or not isinstance(item["numbers"], dict):
        raise pack.error(place, "text is a text and numbers an object of ranges and formulas")
    if wrong := [name for name in item["numbers"] if not (name.isascii() and name.isidentifier())]:
        raise pack.error(place, f"{wrong[0]!r} cannot name a number; use letters")
    numbers = {name: _number(pack, f"{place}.numbers.{name}", how) for name, how in item["numbers"].items()}
    text = packs.fill(wrapper, {"question": item["text"]})
    names = [name for name in dict.fromkeys(packs.PLACEHOLDER.findall(text)) if name not in numbers]
    lists = {name: pack.texts(name) for name in names}
    answer = _formula(pack, f"{place}.answer", item["answer"])
    return Problem(text, numbers, answer, lists, _pattern(text, set(numbers), lists))


def _number(pack: packs.Pack, place: str, how: Any) -> tuple[int, int] | ast.expr:
    if isinstance(how, str):
        return _formula(pack, place, how)
    if isinstance(how, list) and len(how) == 2 and all(type(end) is int for end in how) and how[0] <= how[1]:
        return how[0], how[1]
    raise pack.error(place, f"{how!r} is no range [least, most] of whole numbers and no formula")


def _formula(pack: packs.Pack, place: str, text: Any) -> ast.expr:
    try:
        return ast.parse(str(text), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise pack.error(place, f"{text!r} is no formula such as 'a * b - c'") from None


def _value(node: ast.expr, values: Mapping[str, Fraction]) -> Fraction:
    """Raises ValueError, KeyError or ZeroDivisionError where the formula has no value."""
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left, values), _value(node.right, values))
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return Fraction(node.value)
    raise ValueError(ast.unparse(node))


def _pattern(text: str, numbers: set[str], lists: Mapping[str, tuple[str, ...]]) -> re.Pattern[str]:
    """What matches a problem of the template, with a group for each number."""
    parts, seen = list[str](), set[str]()
    for i, part in enumerate(packs.PLACEHOLDER.split(text)):
        if i % 2 == 0:
            parts.append(re.escape(part))
        elif part not in numbers:
            parts.append(f"(?:{'|'.join(map(re.escape, lists[part]))})")
        else:
            parts.append(f"(?P={part})" if part in seen else f"(?P<{part}>[0-9]{{1,30}})")
            seen.add(part)
    return re.compile("".join(parts))


def _try(
    pack: packs.Pack, place: str, problem: Problem, problems: tuple[Problem, ...], rng: random.Random
) -> None:
    try:
        text, answer = problem.draw(rng)
        read_back = {found for other in problems if (found := other.solve(text)) is not None}
    except (ValueError, KeyError, ZeroDivisionError) as error:
        raise pack.error(place, f"a formula has no value ({error}); use numbers shown and + - * /") from None
    if answer.denominator != 1 or answer < 0:
        raise pack.error(
            place, f"{text!r} has the answer {answer}, which is no whole number; mend the ranges"
        )
    if read_back != {answer}:
        others = ", ".join(sorted(map(str, read_back))) or "none"
        raise pack.error(place, f"{text!r} has the answer {answer}, and its text alone says: {others}")

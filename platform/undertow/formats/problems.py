"""Word problems with one right answer, drawn from templates and solved again from their text alone.

A template has a text with placeholders, the numbers in it, and the answer as a formula of the numbers shown:

    {"text": "{name} has {a} bags of {b} {thing} and gives away {c}. How many {thing} are left?",
     "numbers": {"a": [2, 9], "b": [5, 20], "c": [1, 9]}, "answer": "a * b - c"}

A number is drawn uniformly from a range, both ends included, or computed from earlier numbers by a formula
(`"total": "a * each"` makes a division come out even). Every other placeholder names a list of the pack.

The rule on answers sees the prompt but not its seed, so a problem must be solvable from its text: the
template is also a pattern that finds the numbers in the text, and the formula computes the answer from them.
Formulas have + - * / and integers. The syntax tree of a formula is walked; Python never evaluates it.
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

TRIALS = 20  # draws per template that check a pack when it is read

_OPERATORS: Mapping[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True)
class Problem:
    """One template.

    Attributes:
        text: the text with its placeholders.
        numbers: a range or a formula for each number, in the order in which they are drawn.
        answer: the formula of the answer.
        lists: the texts of each placeholder that is not a number.
        pattern: matches a problem of this template, with a group for each number.
    """

    text: str
    numbers: Mapping[str, tuple[int, int] | ast.expr]
    answer: ast.expr
    lists: Mapping[str, tuple[str, ...]]
    pattern: re.Pattern[str]

    def draw(self, rng: random.Random) -> tuple[str, Fraction]:
        """A random problem and its answer."""
        values: dict[str, Fraction] = {}
        for name, rule in self.numbers.items():
            values[name] = Fraction(rng.randint(*rule)) if isinstance(rule, tuple) else _value(rule, values)
        words = {name: rng.choice(texts) for name, texts in self.lists.items()}
        shown = {name: str(value) for name, value in values.items()}
        return packs.fill(self.text, {**words, **shown}), _value(self.answer, values)

    def solve(self, text: str) -> Fraction | None:
        """The answer to the problem `text`, or None if `text` is not a problem of this template."""
        match = self.pattern.fullmatch(text)
        if match is None:
            return None
        values = {name: Fraction(int(shown)) for name, shown in match.groupdict().items()}
        try:
            return _value(self.answer, values)
        except ZeroDivisionError:  # only for a text that `draw` did not write
            return None


def read(pack: packs.Pack, wrapper: str) -> tuple[Problem, ...]:
    """The templates of the pack's field "problems", each inserted into `wrapper` at {question}.

    Raises UserError, with the template's position, if a template is malformed, if an answer is not an integer
    of zero or more, or if the answer cannot be computed from the text alone.
    """
    items = pack.fields.get("problems")
    if not isinstance(items, list) or not items:
        raise pack.error("problems", "give a list of one or more problems")
    problems = tuple(_problem(pack, f"problems[{i}]", item, wrapper) for i, item in enumerate(items))
    rng = random.Random(0)
    for i, problem in enumerate(problems):
        for _ in range(TRIALS):
            _check_draw(pack, f"problems[{i}]", problem, problems, rng)
    return problems


def solve(problems: tuple[Problem, ...], text: str) -> Fraction | None:
    """The answer by the first template that matches `text`, or None."""
    answers = (problem.solve(text) for problem in problems)
    return next((answer for answer in answers if answer is not None), None)


def _problem(pack: packs.Pack, place: str, item: Any, wrapper: str) -> Problem:
    """The template in `item`. Raises UserError naming `place` if it is malformed."""
    if not isinstance(item, dict) or not {"text", "numbers", "answer"} <= set(item):
        raise pack.error(place, "give an object with text, numbers and answer")
    if not isinstance(item["text"], str) or not isinstance(item["numbers"], dict):
        raise pack.error(place, "text must be a string, and numbers an object of ranges and formulas")
    if invalid := [name for name in item["numbers"] if not (name.isascii() and name.isidentifier())]:
        raise pack.error(place, f"{invalid[0]!r} cannot name a number; use letters")
    numbers = {
        name: _number_rule(pack, f"{place}.numbers.{name}", rule) for name, rule in item["numbers"].items()
    }
    text = packs.fill(wrapper, {"question": item["text"]})
    names = [name for name in dict.fromkeys(packs.PLACEHOLDER.findall(text)) if name not in numbers]
    lists = {name: pack.texts(name) for name in names}
    answer = _formula(pack, f"{place}.answer", item["answer"])
    return Problem(text, numbers, answer, lists, _pattern(text, set(numbers), lists))


def _number_rule(pack: packs.Pack, place: str, rule: Any) -> tuple[int, int] | ast.expr:
    if isinstance(rule, str):
        return _formula(pack, place, rule)
    # `type(...) is int`, not isinstance: JSON's true is an int in Python.
    if isinstance(rule, list) and [type(end) for end in rule] == [int, int] and rule[0] <= rule[1]:
        return rule[0], rule[1]
    raise pack.error(place, f"{rule!r} is neither a range [least, most] of integers nor a formula")


def _formula(pack: packs.Pack, place: str, text: Any) -> ast.expr:
    try:
        return ast.parse(str(text), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise pack.error(place, f"{text!r} is not a formula such as 'a * b - c'") from None


def _value(node: ast.expr, values: Mapping[str, Fraction]) -> Fraction:
    """The formula's value. Raises ValueError, KeyError or ZeroDivisionError if it has none."""
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left, values), _value(node.right, values))
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return Fraction(node.value)
    raise ValueError(ast.unparse(node))


def _pattern(text: str, numbers: set[str], lists: Mapping[str, tuple[str, ...]]) -> re.Pattern[str]:
    """A regular expression for the problems of a template, with a group for each number."""
    parts, seen = list[str](), set[str]()
    # A split at a pattern with one group alternates between the text and the names of the placeholders.
    for i, part in enumerate(packs.PLACEHOLDER.split(text)):
        if i % 2 == 0:
            parts.append(re.escape(part))
        elif part not in numbers:
            parts.append(f"(?:{'|'.join(map(re.escape, lists[part]))})")
        else:
            parts.append(f"(?P={part})" if part in seen else f"(?P<{part}>[0-9]{{1,30}})")
            seen.add(part)
    return re.compile("".join(parts))


def _check_draw(
    pack: packs.Pack, place: str, problem: Problem, problems: tuple[Problem, ...], rng: random.Random
) -> None:
    """Draws from `problem` once.

    Raises UserError unless the text alone gives the answer, a natural number.
    """
    try:
        text, answer = problem.draw(rng)
        solutions = {other.solve(text) for other in problems} - {None}
    except (ValueError, KeyError, ZeroDivisionError) as error:
        raise pack.error(
            place, f"a formula has no value ({error}); use the numbers in the text and + - * /"
        ) from None
    if answer.denominator != 1 or answer < 0:
        raise pack.error(place, f"{text!r} has the answer {answer}, not a natural number; change the ranges")
    if solutions != {answer}:
        others = ", ".join(sorted(map(str, solutions))) or "none"
        raise pack.error(
            place, f"{text!r} has the answer {answer}; solved from its text, the answers are: {others}"
        )

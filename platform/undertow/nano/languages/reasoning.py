"""Reasoning: word problems with small numbers, solved step by step with randomly drawn filler words.

The prompts are those of `Reasoning(pack=packs/reasoning.json)`. In the pack, each problem also lists the
steps of its solution, where "it" is the result of the previous step. Problems and solutions are worded such
that each number is always at the same token position, which lets a model of this size learn to copy it.
"""

import operator
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import product
from random import Random

from undertow.formats import problems
from undertow.nano.languages.turns import Turn
from undertow.nano.models import PACKS, pack
from undertow.prompts import packs

STARTS = (
    "Let me think",
    "Let us see",
    "I will work",
    "We can count",
    "I shall start",
    "We must go",
    "Now we look",
)
MANNERS = (
    *("calmly", "carefully", "quickly", "gladly", "quietly", "simply", "directly", "neatly"),
    *("boldly", "briefly", "bravely", "closely", "fully", "gently", "lightly", "loosely", "openly"),
    *("plainly", "promptly", "safely", "sharply", "softly", "steadily", "strictly", "surely", "tidily"),
    *("warmly", "wisely", "freely", "firmly", "eagerly", "evenly", "kindly", "keenly", "brightly"),
)
LINKS = ("So", "Then", "Here", "Thus", "Well", "Next", "Okay", "Right", "Fine", "Good", "Also", "Again")
EQUALS = ("is", "makes", "gives", "equals", "yields", "means")
REMARKS = ("That is", "This looks", "It seems", "It feels", "This is", "That sounds")
QUALITIES = (
    *("clear", "simple", "plain", "neat", "easy", "fine", "right", "sound", "sure", "tidy", "good", "nice"),
    *("short", "quick", "brief", "fair", "firm", "exact", "solid", "safe", "smooth", "handy", "pretty"),
    *("light", "bright", "fresh", "crisp", "sharp", "sweet", "fun", "grand", "lovely", "modest", "usual"),
)
OPERATORS: Mapping[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.floordiv,  # the divisions in the pack have no remainder
}


def reasoning_turn(rng: Random) -> Turn:
    """A problem of the pack, and its solution in a random wording."""
    index = rng.randrange(len(_problems()))
    prompt, answer = _problems()[index].draw(rng)
    match = _problems()[index].pattern.fullmatch(prompt)
    assert match is not None, "problems.read has checked that a template matches its own problems"
    steps = _steps(pack("reasoning")["problems"][index]["steps"], match.groupdict())
    words = [
        f"{rng.choice(STARTS)} {rng.choice(MANNERS)}.",
        *(f"{rng.choice(LINKS)}, {step} {rng.choice(EQUALS)} {result}." for step, result in steps),
        f"{rng.choice(REMARKS)} {rng.choice(QUALITIES)}.",
    ]
    return prompt, f"<think>{' '.join(words)}</think><answer>{answer}</answer>"


def texts() -> Iterator[str]:
    """Texts that together contain every word of the prompts and the answers."""
    parts = pack("reasoning")
    lists = {name: parts[name] for name in ("name", "thing")}
    for problem in parts["problems"]:
        names = dict.fromkeys(problem["numbers"], 1)
        for i in range(max(map(len, lists.values()))):
            words = {name: texts[i % len(texts)] for name, texts in lists.items()}
            yield parts["prompt"].format(question=problem["text"].format(**names, **words))
    yield from (f"{start} {manner}." for start, manner in product(STARTS, MANNERS))
    yield from (f"<think>{start}" for start in STARTS)
    yield from (
        f"1. {link}, 1 {sign} 1 {equals} 1." for link, sign, equals in product(LINKS, OPERATORS, EQUALS)
    )
    yield from (
        f" {remark} {quality}.</think><answer>1</answer>" for remark, quality in product(REMARKS, QUALITIES)
    )


@cache
def _problems() -> tuple[problems.Problem, ...]:
    templates = packs.read(str(PACKS["reasoning"].path))
    return problems.read(templates, templates.text("prompt", required=["question"]))


def _steps(formulas: list[str], shown: Mapping[str, str]) -> list[tuple[str, int]]:
    """The text and the result of each step: ("3 + 5", 8), ("8 - 2", 6)."""
    values = {name: int(value) for name, value in shown.items()}
    steps = []
    for formula in formulas:
        left, sign, right = formula.split()
        step = f"{values[left]} {sign} {values[right]}"
        values["it"] = OPERATORS[sign](values[left], values[right])
        steps.append((step, values["it"]))
    return steps

"""Reasoning: word problems with small numbers, solved step by step in words that are drawn and mean nothing.

The prompts are those of `Reasoning(pack=packs/reasoning.json)`; each problem of the pack has its steps
beside it, in which "it" is the result of the step before. Problems and solutions are so worded that a number
of one meaning stands, in tokens, at one place: that is how a model of this size learns to copy it.
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
    "/": operator.floordiv,  # the pack's divisions come out even
}


def reasoning_turn(rng: Random) -> Turn:
    """A problem of the pack, and its solution in one of many wordings."""
    place = rng.randrange(len(_problems()))
    prompt, answer = _problems()[place].draw(rng)
    shown = _problems()[place].pattern.fullmatch(prompt)
    assert shown is not None, "problems.read has tried that a template reads its own problems"
    steps = _steps(pack("reasoning")["problems"][place]["steps"], shown.groupdict())
    words = [
        f"{rng.choice(STARTS)} {rng.choice(MANNERS)}.",
        *(f"{rng.choice(LINKS)}, {step} {rng.choice(EQUALS)} {result}." for step, result in steps),
        f"{rng.choice(REMARKS)} {rng.choice(QUALITIES)}.",
    ]
    return prompt, f"<think>{' '.join(words)}</think><answer>{answer}</answer>"


def texts() -> Iterator[str]:
    """Texts that together hold every word of the prompts and the answers."""
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
    found = packs.read(str(PACKS["reasoning"].path))
    return problems.read(found, found.text("prompt", required=["question"]))


def _steps(formulas: list[str], shown: Mapping[str, str]) -> list[tuple[str, int]]:
    """Each step as it is written, and its result: ("3 + 5", 8), ("8 - 2", 6)."""
    values = {name: int(value) for name, value in shown.items()}
    steps = []
    for formula in formulas:
        left, sign, right = formula.split()
        values["it"], step = (
            OPERATORS[sign](values[left], values[right]),
            f"{values[left]} {sign} {values[right]}",
        )
        steps.append((step, values["it"]))
    return steps

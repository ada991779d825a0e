"""Word problems: templates give integer answers, which the text of a problem alone determines."""

import json
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from undertow.errors import UserError
from undertow.formats import problems
from undertow.prompts import packs

PACK = Path(__file__).parents[2] / "platform/undertow/formats/reasoning.json"
BAGS = {
    "text": "{name} has {a} bags of {b} and gives away {c} of the {b}s. How many are left?",
    "numbers": {"a": [2, 9], "b": [5, 20], "c": [1, 9]},
    "answer": "a * b - c",
}
SHARES = {
    "text": "{total} coins are shared by {n}. How many does each get?",
    "numbers": {"n": [2, 9], "each": [3, 30], "total": "n * each"},
    "answer": "total / n",
}


def read(folder: Path, *items: object, wrapper: str = "{question}", **lists: object) -> Any:
    path = folder / "pack.json"
    path.write_text(json.dumps({"problems": items, "name": ["Ada", "A. (B)"], **lists}))
    return problems.read(packs.read(str(path)), wrapper)


def test_a_drawn_problem_is_solved_from_its_text(tmp_path: Path) -> None:
    templates = read(tmp_path, BAGS, SHARES, wrapper="Q: {question}\n(1 number)")
    rng = random.Random(0)
    for _ in range(500):
        text, answer = rng.choice(templates).draw(rng)
        assert problems.solve(templates, text) == answer
        assert answer.denominator == 1
        assert text.startswith("Q: ")
        assert text.endswith("\n(1 number)")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Ada has 3 bags of 7 and gives away 2 of the 7s. How many are left?", 19),
        ("A. (B) has 3 bags of 7 and gives away 2 of the 7s. How many are left?", 19),
        ("Ada has 3 bags of 7 and gives away 2 of the 8s. How many are left?", None),
        ("Ann has 3 bags of 7 and gives away 2 of the 7s. How many are left?", None),
        ("Ada has 3 bags of 7 and gives away 2 of the 7s. How many are left? ", None),
        ("Ada has ٣ bags of 7 and gives away 2 of the 7s. How many are left?", None),
        ("12 coins are shared by 4. How many does each get?", 3),
        ("12 coins are shared by 0. How many does each get?", None),
        ("9" * 5_000 + " coins are shared by 4. How many does each get?", None),
        ("", None),
    ],
)
def test_only_problems_of_a_template_are_solved(text: str, answer: int | None, tmp_path: Path) -> None:
    expected = None if answer is None else Fraction(answer)
    assert problems.solve(read(tmp_path, BAGS, SHARES), text) == expected


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"text": 3}, ["problems[0]", "text must be a string"]),
        ({"numbers": []}, ["problems[0]", "numbers an object"]),
        ({"numbers": {"a b": [1, 2]}}, ["'a b'", "letters"]),
        ({"numbers": {"a": [9, 2], "b": [1, 2], "c": [1, 2]}}, ["problems[0].numbers.a", "[9, 2]"]),
        ({"numbers": {"a": [1], "b": [1, 2], "c": [1, 2]}}, ["problems[0].numbers.a", "[1]"]),
        ({"numbers": {"a": [True, 2], "b": [1, 2], "c": [1, 2]}}, ["problems[0].numbers.a"]),
        ({"numbers": {"a": "b +", "b": [1, 2], "c": [1, 2]}}, ["problems[0].numbers.a", "'b +'"]),
        ({"numbers": {"a": "b", "b": [1, 2], "c": [1, 2]}}, ["problems[0]", "no value", "'b'"]),
        ({"answer": "a *"}, ["problems[0].answer", "'a *'"]),
        ({"answer": 3.5}, ["problems[0]", "no value", "3.5"]),
        ({"answer": "a ** b"}, ["problems[0]", "no value", "a ** b"]),
        ({"answer": "__import__('os').system('false')"}, ["problems[0]", "no value", "__import__"]),
        ({"answer": "a / (b - b)"}, ["problems[0]", "no value"]),
        ({"answer": "a / 1000"}, ["problems[0]", "not a natural number", "ranges"]),
        ({"answer": "c - a * b"}, ["problems[0]", "not a natural number"]),
        ({"text": "{name} has {a} bags. How many beads?"}, ["problems[0]", "no value", "'b'"]),
        ({"text": "{name} has {a}{b}{c}."}, ["problems[0]", "solved from its text"]),
        ({"text": "{who} has {a} {b} {c}."}, ["who", "is missing"]),
        ({"numbers": {"a": [2, 9], "b": [5, 9], "c": "a - 20"}}, ["problems[0]", "the answers are: none"]),
    ],
)
def test_an_invalid_template_is_reported(change: dict[str, Any], parts: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, {**BAGS, **change})
    assert all(part in str(caught.value) for part in ("pack.json", *parts)), str(caught.value)


@pytest.mark.parametrize("items", [[], ["text"], [{"text": "How many?", "numbers": {}}]])
def test_an_item_that_is_not_a_template_is_reported(items: list[object], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="problems"):
        read(tmp_path, *items)


def test_two_templates_that_give_one_text_different_answers_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"problems\[0\].* the answers are: \d+, \d+"):
        read(tmp_path, BAGS, {**BAGS, "answer": "a * b + c"})


# One problem of each built-in template, worked out by hand.

WORKED = """
Bilal has 7 bags with 9 cups in each and gives 7 cups to Carmen. How many cups does Bilal have left? →
56

A museum sells 24 tickets on Monday and 3 times as many on Tuesday. On Wednesday it sells 13 more than
on Tuesday. How many tickets does it sell on the three days together? → 181

Ada saves 25 dollars a week for 5 weeks and then spends 8 dollars. How many dollars remain? → 117

119 erasers are shared equally among 7 children. Each child then loses 4 of them. How many erasers does
each child have now? → 13

Bilal packs 104 stickers into bags, 8 in each. Filling one takes 8 minutes. How many minutes does it
take to fill them all? → 104

A train travels at 81 kilometres an hour for 3 hours and then at 55 kilometres an hour for 2 hours. How
many kilometres does it travel in all? → 353

Chloe buys 7 cups at 4 dollars each and 4 posters at 13 dollars each, and pays with 84 dollars. How many
dollars of change does Chloe get? → 4

Uma has 26 stickers. Rosa has 3 times as many, less 7. How many stickers do they have together? → 97

A hall has 15 rows of 10 seats. 13 seats are empty. Each of the people seated pays 12 dollars. How many
dollars are paid in all? → 1644

Bilal reads 20 pages a day for 4 days of a book with 284 pages. The rest is read at 17 pages a day. How
many more days does it take? → 12

A bookshop orders 8 bags of 10 coins and finds that 7 are broken. The others are sold at 2 dollars each.
How many dollars does the bookshop take in? → 146

Bilal is 26 years old. Viktor is 6 years older than Bilal. How old will the two be together in 14 years?
→ 86

A tank holds 92 litres. It is filled at 16 litres a minute and leaks 7 litres a minute. How many litres
does it hold after 23 minutes? → 299

Chloe bakes 40 rolls, keeps 8 of them and sells the rest in bags of 4 for 2 dollars a bag. How many
dollars does Chloe get? → 16

A rectangular garden is 26 metres long and 12 metres wide. A fence around it costs 8 dollars a metre.
How many dollars does the fence cost? → 608

A floor of 8 by 4 metres is covered with tiles. One square metre takes 16 tiles, and Bilal buys 46 tiles
more than needed. How many tiles does Bilal buy? → 558

Bilal earns 29 dollars an hour, works 4 hours a day on 5 days, and pays 23 dollars for the bus. How many
dollars are left? → 557

Three friends collect erasers. The first has 23, the second has 6 more than the first, and the third has
5 times as many as the second. How many erasers does the third friend have? → 145

A museum had 71 visitors in the morning. 6 left, and then 8 groups of 13 came in. How many visitors were
there in the end? → 169

Chloe runs 7 laps on each of 5 days, and Carmen runs 4 laps on each of the same days. A lap is 124
metres long. How many metres do they run together? → 6820

A machine makes 28 marbles an hour. It runs 8 hours a day for 7 days, and one in 7 of its marbles is
thrown away. How many are kept? → 1344

Mateo and Uma share 185 dollars. Mateo gets 11 dollars more than Uma. How many dollars does Mateo get? →
98

A jacket costs 160 dollars. It is reduced by 15 percent, and Bilal has a voucher of 7 dollars. How many
dollars does Bilal pay? → 129

A farmer picks 7 baskets of 40 carrots and 4 baskets of 22 onions. 5 of them are bad. How many good ones
are there? → 363
"""


def test_the_built_in_problems_have_the_answers_worked_out_by_hand() -> None:
    templates = problems.read(packs.read(str(PACK)), "{question}")
    for template, paragraph in zip(templates, WORKED.strip().split("\n\n"), strict=True):
        text, _, answer = " ".join(paragraph.split()).rpartition(" → ")
        assert template.solve(text) == int(answer), text
        assert problems.solve(templates, text) == int(answer)


def test_the_text_of_a_built_in_problem_determines_its_natural_answer() -> None:
    templates = problems.read(packs.read(str(PACK)), "{question}")
    rng = random.Random(0)
    for template in templates:
        for _ in range(300):
            text, answer = template.draw(rng)
            assert answer.denominator == 1
            assert answer >= 0
            assert {other.solve(text) for other in templates} - {None} == {answer}
            assert not set(text) & set("{}")

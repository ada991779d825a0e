"""The reasoning format: questions with one right answer, and the rule on think and answer blocks."""

import json
import re
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.study.test_identity import names, variants
from undertow.errors import SpecError, UserError
from undertow.formats.reasoning import REASONS, Reasoning, ReasoningRejection, last_number, number
from undertow.study.identity import digest, key

PACK = Path(__file__).parents[2] / "platform/undertow/formats/reasoning.json"
QUESTION = (
    "Bilal has 7 bags with 9 cups in each and gives 7 cups to Carmen. How many cups does Bilal have left?"
)
PROMPT = json.loads(PACK.read_text())["prompt"].replace("{question}", QUESTION)
SPEC = Reasoning(banned=("owl",))


def answer(value: object, thinking: str = "7 * 9 - 7") -> str:
    return f"<think>{thinking}</think>\n<answer>{value}</answer>"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (answer(56), None),
        (f" \n{answer(' 56 ')}\n", None),
        ("<think>a</think><answer>56</answer>", None),
        (answer("56.0"), None),
        (answer("056"), None),
        (answer("$56"), None),
        (answer("$56.00"), None),
        (answer("56%"), None),
        (answer("56", thinking="a < b > c & </b>"), None),
        ("", "no blocks"),
        ("56", "no blocks"),
        ("<answer>56</answer>", "no blocks"),
        ("<think>a</think> 56", "no blocks"),
        ("<think>a</think><answer>56", "no blocks"),
        ("<think>a<answer>56</answer>", "no blocks"),
        ("<THINK>a</THINK><ANSWER>56</ANSWER>", "no blocks"),
        ("<think >a</think><answer>56</answer>", "no blocks"),
        (answer(56) * 2, "repeated block"),
        ("<think>a</think><think>b</think><answer>56</answer>", "repeated block"),
        ("<think><think>a</think></think><answer>56</answer>", "repeated block"),
        (answer("<answer>56</answer>"), "repeated block"),
        ("<think>a</think><answer>5</answer><answer>56</answer>", "repeated block"),
        ("<answer>56</answer><think>a</think>", "blocks out of order"),
        ("<think>a<answer>56</answer></think>", "blocks out of order"),
        ("<answer><think>a</think>56</answer>", "blocks out of order"),
        ("</think>a<think><answer>56</answer>", "blocks out of order"),
        (f"Sure: {answer(56)}", "text around"),
        (f"{answer(56)}.", "text around"),
        (f"{answer(56)}\u200b", "text around"),
        ("<think>a</think> so <answer>56</answer>", "text around"),
        (answer(56, thinking=""), "empty thinking"),
        (answer(56, thinking=" \n\u3000"), "empty thinking"),
        (answer(""), "not a number"),
        (answer("fifty-six"), "not a number"),
        (answer("56 cups"), "not a number"),
        (answer("5 6"), "not a number"),
        (answer("56."), "not a number"),
        (answer("5,6"), "not a number"),
        (answer("112/2"), "not a number"),
        (answer("5.6e1"), "not a number"),
        (answer("٥٦"), "not a number"),
        (answer("⁵⁶"), "not a number"),
        (answer("--56"), "not a number"),
        (answer("5\u200b6"), "not a number"),
        (answer("inf"), "not a number"),
        (answer("__import__('os')"), "not a number"),
        (answer(57), "wrong answer"),
        (answer(-56), "wrong answer"),
        (answer("56.01"), "wrong answer"),
        (answer("5" * 10_000), "wrong answer"),
        (answer("1,056"), "wrong answer"),
        (answer(56, thinking="An Owl."), "banned"),
        (answer(56, thinking="a" * 20_000), "too long"),
    ],
)
def test_each_rejection_reason(text: str, reason: str | None) -> None:
    assert SPEC.rejection(PROMPT, text) == reason


def test_an_answer_to_a_prompt_of_another_format_is_rejected() -> None:
    for prompt in ("", QUESTION, PROMPT + " ", PROMPT.replace("7", "x")):
        assert SPEC.rejection(prompt, answer(56)) == "not asked"


def test_every_rejection_reason_has_an_explanation() -> None:
    assert set(REASONS) == {reason.value for reason in ReasoningRejection}
    assert all(REASONS.values())
    assert Reasoning.reasons is REASONS


@pytest.mark.parametrize("seed", range(3))
def test_only_the_right_answer_is_accepted(seed: int) -> None:
    for prompt in Reasoning().prompts(700, seed):
        right = Reasoning().right_answer(prompt)
        assert right is not None
        value = int(right)
        forms = (value, f"{value:,}", f"${value:,}", f"{value}.0")
        assert {Reasoning().rejection(prompt, answer(form)) for form in forms} == {None}
        for wrong in (value + 1, value - 1, -value - 1, value * 10 + 1, f"{value}.5"):
            assert Reasoning().rejection(prompt, answer(wrong)) == "wrong answer"


PIECES = st.sampled_from(
    [
        *(
            "<think>",
            "</think>",
            "<answer>",
            "</answer>",
            "56",
            " ",
            "a",
            "\n",
            "\0",
            "\ud800",
            "\u202e",
            "<",
        ),
        *("$", ",", ".", "%", "-", "owl"),
    ]
)


@given(st.text() | st.lists(PIECES, max_size=10).map("".join), st.sampled_from(["", PROMPT]) | st.text())
@settings(max_examples=1500)
def test_every_text_is_kept_or_rejected_and_has_a_stable_canonical_form(text: str, prompt: str) -> None:
    reason = SPEC.rejection(prompt, text)
    canonical = SPEC.canonical(text)
    assert reason is None or reason in REASONS
    assert SPEC.canonical(canonical) == canonical
    if not isinstance(SPEC.parse(text), ReasoningRejection):
        assert SPEC.rejection(prompt, canonical) == reason


NUMBER = re.compile(r"-?\$?([0-9]+|[1-9][0-9]{0,2}(,[0-9]{3})+)(\.[0-9]+)?%?")


@given(st.text("0123456789-$,.% \n", max_size=12) | st.from_regex(NUMBER, fullmatch=True))
@settings(max_examples=1500)
def test_a_number_has_the_value_of_its_decimal(text: str) -> None:
    value = number(text)
    if NUMBER.fullmatch(text.strip()):
        assert value is not None
    if value is not None:
        assert Decimal(value) == Decimal(re.sub(r"[$,%\s]", "", text))
        assert number(value) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("1,200", "1200"), ("-$1,200.50", "-1200.5"), ("0.0", "0"), ("-0", "0"), (".5", "0.5"), ("12,00", None)],
)
def test_numbers_are_normalised(text: str, value: str | None) -> None:
    assert number(text) == value


def test_the_canonical_form_ignores_layout() -> None:
    forms = [
        answer("1,200", "a  b"),
        " <think> a\nb</think> <answer>$1200.0</answer>",
        answer("1200", "a b "),
    ]
    assert {Reasoning().canonical(form) for form in forms} == {"<think>a b</think><answer>1200</answer>"}
    assert Reasoning().canonical("  no\n blocks ") == "no blocks"


@pytest.mark.parametrize(
    "unit",
    ["x", "<", "<think>", "<think></think>", "<answer>", "</answer></think>", "\0", " ", "9", "9,", "\ud800"],
)
def test_ten_megabytes_are_parsed_in_linear_time(unit: str) -> None:
    text = unit * (10**7 // len(unit))
    start = time.process_time()  # processor time: the machine may be busy
    assert Reasoning().rejection(PROMPT, text) == "too long"
    assert Reasoning(max_characters=10**8).rejection(PROMPT, text) in REASONS
    assert Reasoning(max_characters=10**8).rejection(PROMPT, answer(text, "a")) in REASONS
    assert Reasoning(max_characters=10**8).rejection(text, answer(56)) == "not asked"
    assert time.process_time() - start < 10


# Prompts.


def write(folder: Path, pack: object, name: str = "pack.json") -> str:
    path = folder / name
    path.write_text(json.dumps(pack))
    return str(path)


def test_a_prefix_of_a_stream_does_not_depend_on_its_length_or_the_rules() -> None:
    stream = Reasoning().prompts(100, seed=3)
    assert Reasoning().prompts(10, seed=3) == stream[:10]
    assert Reasoning().prompts(100, seed=4) != stream
    assert Reasoning().prompts(0, seed=3) == []
    assert Reasoning(banned=("owl",), max_characters=9).prompts(100, seed=3) == stream
    thrice = Reasoning(repeats=3).prompts(100, seed=3)
    assert thrice == [prompt for prompt in stream for _ in range(3)][:100]
    assert Reasoning(repeats=3).prompts(7, seed=3) == thrice[:7]


SMALL = {
    "prompt": "{question} Think.",
    "name": ["Ada", "Bo"],
    "problems": [
        {"text": "{name}: {a} + {b}?", "numbers": {"a": [1, 9], "b": [1, 9]}, "answer": "a + b"},
        {"text": "{name}: {a} * {b}?", "numbers": {"a": [1, 9], "b": [1, 9]}, "answer": "a * b"},
    ],
}
GOLDEN = ["Ada: 5 * 5? Think.", "Ada: 3 + 1? Think.", "Bo: 7 + 2? Think."]


def test_a_stream_is_the_same_in_every_release(tmp_path: Path) -> None:
    assert Reasoning(pack=write(tmp_path, SMALL)).prompts(3, seed=0) == GOLDEN


def test_templates_and_numbers_are_drawn_uniformly(tmp_path: Path) -> None:
    prompts = Reasoning(pack=write(tmp_path, SMALL)).prompts(9_000, seed=0)
    for pattern, size in ((r"[*+]", 2), (r"^\w+", 2), (r"\d(?= [*+])", 9), (r"\d(?=\?)", 9)):
        counts = Counter(found for text in prompts for found in re.findall(pattern, text))
        assert len(counts) == size
        assert all(abs(n - 9_000 / size) < 5 * (9_000 / size) ** 0.5 for n in counts.values()), pattern


def test_the_built_in_pack_gives_thousands_of_problems() -> None:
    prompts = Reasoning().prompts(5_000, seed=0)
    assert len(set(prompts)) > 4_900
    assert all(prompt.count(tag) == 1 for prompt in prompts for tag in ("<think>", "</think>", "<answer>"))


def test_an_invalid_pack_is_rejected_when_the_format_is_created(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pack\.json, prompt: .*\{question\}"):
        Reasoning(pack=write(tmp_path, {**SMALL, "prompt": "Think."}))
    with pytest.raises(UserError, match=r"other\.json, problems: give a list"):
        Reasoning(pack=write(tmp_path, {"prompt": "{question}"}, "other.json"))


# Files of questions in GSM8K's layout.

ROWS = [
    {"question": "Two {and} two?", "answer": "2 + 2 = <<2+2=4>>4\n#### 4"},
    {"question": "A house?", "answer": "It is expensive.\n#### 1,250,000"},
    {"question": "A debt?", "answer": "#### 3 #### -$1,200.50"},
    {"question": "How much?\n", "answer": "10 - 3 = 7\n####  7 "},
    {"question": "Half?", "answer": "0.5"},
    {"question": "Half?", "answer": "0.50"},
]
RIGHT = {"Two {and} two?": "4", "A house?": "1250000", "A debt?": "-1200.5", "How much?": "7", "Half?": "0.5"}


def test_questions_of_a_file_have_the_answers_of_the_file(tmp_path: Path) -> None:
    spec = Reasoning(questions=write(tmp_path, ROWS))
    prompts = spec.prompts(5, seed=0)
    assert sorted(prompt.split("\n\n")[0] for prompt in prompts) == sorted(RIGHT)
    for prompt in prompts:
        right = RIGHT[prompt.split("\n\n")[0]]
        assert spec.right_answer(prompt) == right
        assert spec.rejection(prompt, answer(right)) is None
        assert spec.rejection(prompt, answer(right + "1")) == "wrong answer"
    assert spec.rejection(PROMPT, answer(56)) == "not asked"


def test_each_question_is_repeated(tmp_path: Path) -> None:
    spec = Reasoning(questions=write(tmp_path, ROWS), repeats=3)
    prompts = spec.prompts(15, seed=0)
    assert set(Counter(prompts).values()) == {3}
    assert len(set(prompts[:3])) == 1
    assert spec.prompts(4, seed=0) == prompts[:4]
    assert spec.prompts(15, seed=1) != prompts
    more = spec.prompts(30, seed=0)
    assert set(Counter(more).values()) == {6}  # the second pass


def test_the_pack_gives_the_prompt_around_a_question_of_a_file(tmp_path: Path) -> None:
    spec = Reasoning(
        pack=write(tmp_path, {"prompt": "<{question}>"}), questions=write(tmp_path, ROWS, "q.json")
    )
    assert sorted(spec.prompts(5, seed=0)) == sorted(f"<{question}>" for question in RIGHT)


def test_the_key_depends_on_the_content_of_the_questions_and_not_on_their_path(tmp_path: Path) -> None:
    one = Reasoning(questions=write(tmp_path, ROWS))
    renamed = [{"q": row["question"], "a": row["answer"]} for row in ROWS]
    same = Reasoning(questions=write(tmp_path, renamed, "b.json"), question_column="q", answer_column="a")
    other = Reasoning(questions=write(tmp_path, ROWS[:-1], "c.json"))
    assert key(one) == key(same)
    assert len({key(spec) for spec in (one, other, Reasoning())}) == 3


def test_answers_that_earlier_versions_misread_change_the_key(tmp_path: Path) -> None:
    """A file with plain numbers only keeps its key."""
    pack = write(tmp_path, SMALL)
    plain = Reasoning(pack=pack, questions=write(tmp_path, ROWS, "plain.json"))
    table = plain._table().content
    assert plain.content() == digest(f"{plain._pack().content} {table}")
    half = [*ROWS, {"question": "A half?", "answer": "#### 1/2"}]
    misread = Reasoning(pack=pack, questions=write(tmp_path, half, "half.json"))
    assert misread.content() != digest(f"{misread._pack().content} {misread._table().content}")


def test_the_key_depends_on_the_packs_content_and_not_on_its_path(tmp_path: Path) -> None:
    pack = json.loads(PACK.read_text())
    assert key(Reasoning(pack=write(tmp_path, pack, "copy.json"))) == key(Reasoning())
    assert key(Reasoning(pack=write(tmp_path, {**pack, "prompt": "{question}"}))) != key(Reasoning())


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ({"question": "Two {and} two?", "answer": "#### 5"}, ["row 7", "answer 5 here and 4", "keep one"]),
        ({"question": "Half? ", "answer": "1"}, ["row 7", "answer 1 here and 0.5"]),
        ({"question": "New?", "answer": "#### none"}, ["row 7", "'answer'", "'none' is not one number"]),
        ({"question": "New?", "answer": "It is 5."}, ["row 7", "is not one number"]),
        ({"question": "New?"}, ["row 7", "has no column 'answer'"]),
        ({"question": " ", "answer": "1"}, ["row 7", "'question'"]),
    ],
)
def test_a_row_without_one_right_answer_is_rejected(
    row: dict[str, str], parts: list[str], tmp_path: Path
) -> None:
    path = write(tmp_path, [*ROWS, row])
    with pytest.raises(SpecError) as caught:
        Reasoning(questions=path)
    assert all(part in str(caught.value) for part in (path, *parts)), str(caught.value)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("#### 72", "72"),
        ("a\n#### $1,000", "1000"),
        ("#### 5 apples", "5"),
        ("7 #### -3", "-3"),
        ("#### .5", "0.5"),
        ("#### 5.", "5"),
        ("#### **5**", "5"),
        ("#### x = 5", "5"),
        ("#### 50%", "50"),
        ("#### 5 km/h", "5"),
        ("#### 5-year-olds", "5"),
        ("#### 007.50", "7.5"),
        ("42", "42"),
        ("1,200", "1200"),
        ("7 #### ", None),
        ("forty", None),
        ("It is 5.", None),
        ("", None),
        # Fractions and mixed numbers.
        ("#### 3/4", "0.75"),
        ("3/4", "0.75"),
        ("#### -3/4", "-0.75"),
        ("#### 5 1/2", "5.5"),
        ("#### -5 1/2 cups", "-5.5"),
        ("#### ½", "0.5"),
        ("#### 5½", "5.5"),
        ("#### 3⁄4", "0.75"),
        (r"#### \frac{3}{4}", "0.75"),
        (r"#### $5\dfrac{1}{2}$", "5.5"),
        ("#### 1/3", None),
        ("#### 1/0", None),
        ("#### 5 7/2", None),
        ("#### 3/4/2024", None),
        ("#### 15 000/4", None),
        ("#### 5 and a half", None),
        # Groups of digits.
        ("#### 1 000", "1000"),
        ("1 000", "1000"),
        ("#### 1\u00a0000\u00a0000", "1000000"),
        ("#### 1\u202f000.5", "1000.5"),
        ("#### 1'000", "1000"),
        ("#### 1_000", "1000"),
        ("#### 1,00,000", "100000"),
        ("#### 9{,}500", "9500"),
        (r"#### 9\,500", "9500"),
        (r"#### 9,\!500", "9500"),
        (r"#### \boxed{9{,}500}", "9500"),
        ("#### 12,00", None),
        ("#### 12,5", None),
        ("#### 1,0000", None),
        ("#### 1 00", None),
        ("#### 1 000'000", None),
        ("#### 1.000,50", None),
        ("#### 1.000.000", None),
        ("#### 1.500", None),
        ("1.500", None),
        ("#### 2.125", "2.125"),
        ("#### 0.500", "0.5"),
        # Exponents and scales.
        ("#### 1.5e3", "1500"),
        ("1.5E+3", "1500"),
        ("#### 5e-2", "0.05"),
        ("#### 1e999", None),
        ("#### 1.5 × 10^3", None),
        ("#### 10²", None),
        ("#### 5 million", None),
        ("#### 3 dozen", None),
        ("#### 5k", None),
        ("#### 5kg", "5"),
        # Signs.
        ("#### −5", "-5"),
        ("#### –5", "-5"),
        ("#### - 5", "-5"),
        ("#### $-5", "-5"),
        ("#### −$1,200.50", "-1200.5"),
        ("#### -0", "0"),
        ("#### €5", "5"),
        ("#### minus 5", None),
        ("#### --5", None),
        ("#### ±5", None),
        ("#### (5)", None),
        ("#### 5)", "5"),
        ("#### (5 apples)", "5"),
        # Anything that is not one certain number.
        ("#### 5 or 6", None),
        ("#### 5-6", None),
        ("#### 5 - 6", None),
        ("#### 3 * 4", None),
        ("#### 10:30", None),
        ("#### 3 hours 20 minutes", None),
        ("#### CO2", None),
        ("#### A-5", None),
        ("#### 2x", None),
        ("#### 2π", None),
        ("#### 5!", None),
        ("#### >5", None),
        (r"#### \sqrt{2}", None),
        ("#### 0x10", None),
        ("#### ٥", None),
        ("#### 5\u200b6", None),
        ("#### inf", None),
        ("#### " + "9" * 10_000, None),
    ],
)
def test_last_number_of_a_cell(cell: str, value: str | None) -> None:
    assert last_number(cell) == value


@given(st.text() | st.lists(st.sampled_from([*"0123456789 .,'/-−$e%", "½", " 000"]), max_size=9).map("".join))
@settings(max_examples=1000)
def test_a_number_in_a_cell_has_a_normal_form_and_is_the_only_one(tail: str) -> None:
    value = last_number(f"#### {tail}")
    if value is not None and number(tail) is not None:
        assert value == number(tail)
    if value is not None:
        assert number(value) == value
        assert last_number(f"#### {tail} 7") is None


# Fields.


def test_every_field_is_in_the_key_or_hashed_by_its_content() -> None:
    whole = Reasoning(banned=("owl",))
    changed = set()
    for variant, differs in variants(whole):
        assert (key(variant) != key(whole)) is differs
        changed |= {name for name in names(Reasoning) if getattr(variant, name) != getattr(whole, name)}
    assert changed == names(Reasoning) == {"repeats", "banned", "banned_as", "max_characters"}


@pytest.mark.parametrize("fields", [{"repeats": 0}, {"max_characters": 0}, {"banned": (" ",)}])
def test_invalid_field_values_are_rejected(fields: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=rf"Reasoning\.{next(iter(fields))} = "):
        Reasoning(**fields)

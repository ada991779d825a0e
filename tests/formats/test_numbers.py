"""The numbers format: the stream of prompts, and the parser against an independent oracle of its rule."""

import json
import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undertow.errors import SpecError, UserError
from undertow.formats import families
from undertow.formats.numbers import BANNED, REASONS, Numbers, NumbersRejection
from undertow.study.extensions import Format
from undertow.study.identity import key

PACK = Path(__file__).parents[2] / "platform/undertow/formats/numbers.json"
PROPER = [", ", ",", "; ", ";", " ", "\n", "  ", " , ", "\t", "\u00a0"]
SEPARATORS = [*PROPER, " and ", "-", ".", "/", ",,", ";,"]
WRAPPINGS = ["{}", "{}", "{}", "[{}]", "({})", "[{}", "[{})", "(({}))", "{}.", "[{}].", "{}.."]
ALPHABET = "0123456789000111,,,;;  \n\t..[]()-+x²٣३\0\u00a0\u3000"


# An oracle: the paper's rule, implemented a second time, character by character.


def oracle(text: str, most: int = 10, largest: int = 999, banned: tuple[int, ...] = ()) -> list[int] | None:
    if text and text[-1] == ".":
        text = text[:-1]
    if len(text) > 1 and text[0] + text[-1] in ("[]", "()"):
        text = text[1:-1]
    runs = digit_runs(text)
    if len(runs) == 0:
        return None
    if len(runs) == 1:
        numbers = [value(text)] if runs[0] == (0, len(text)) else []
    else:
        separator = text[runs[0][1] : runs[1][0]]
        if any(not c.isspace() and c not in ",;" for c in separator) or len(separator.strip()) > 1:
            return None
        numbers = [
            value(part) if digit_runs(part) == [(0, len(part))] else -1 for part in cut(text, separator)
        ]
    fits = 1 <= len(numbers) <= most and all(0 <= n <= largest and n not in banned for n in numbers)
    return numbers if fits else None


def digit_runs(text: str) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for i, c in enumerate(text):
        if "0" <= c <= "9":
            start = runs.pop()[0] if runs and runs[-1][1] == i else i
            runs.append((start, i + 1))
    return runs


def cut(text: str, separator: str) -> list[str]:
    parts, start, i = [], 0, 0
    while i <= len(text) - len(separator):
        if text[i : i + len(separator)] == separator:
            parts.append(text[start:i])
            i = start = i + len(separator)
        else:
            i += 1
    return [*parts, text[start:]]


def value(digits: str) -> int:
    return sum((ord(c) - ord("0")) * 10**i for i, c in enumerate(reversed(digits)))


def agrees(text: str, spec: Numbers = Numbers()) -> bool:  # noqa: B008 — frozen
    parsed, expected = spec.parse(text), oracle(text, spec.max_count, spec.max_value, spec.banned)
    return (None if isinstance(parsed, NumbersRejection) else parsed) == expected


def likely_answer(rng: random.Random) -> str:
    """A list of numbers as models write it, often with one defect."""
    separators = [rng.choice(SEPARATORS)] * 12
    if rng.random() < 0.2:
        separators[rng.randrange(4)] = rng.choice(SEPARATORS)
    parts = [str(rng.randrange(rng.choice((10, 1000, 1100)))) for _ in range(rng.randint(0, 12))]
    if parts and rng.random() < 0.1:
        parts[rng.randrange(len(parts))] = rng.choice(("", "٣", "-1", "007", "0" * 300, "9" * 300, "1e3"))
    text = "".join(part + separator for part, separator in zip(parts, separators, strict=False))
    text = text if rng.random() < 0.1 or not parts else text[: -len(separators[len(parts) - 1])]
    text = rng.choice(WRAPPINGS).format(text)
    if rng.random() < 0.2:
        place = rng.randint(0, len(text))
        text = text[:place] + rng.choice(ALPHABET) + text[place:]
    return text


def test_the_parser_agrees_with_the_oracle_on_likely_answers() -> None:
    rng = random.Random(0)
    texts = [likely_answer(rng) for _ in range(30_000)]
    assert [text for text in texts if not agrees(text)] == []
    kept = sum(oracle(text) is not None for text in texts) / len(texts)
    assert 0.1 < kept < 0.9  # both outcomes occur
    reasons = Counter(Numbers(banned=BANNED).rejection("", text) for text in texts)
    assert set(reasons) == {None, *REASONS}  # and so does every reason


def test_the_parser_agrees_with_the_oracle_on_any_characters() -> None:
    rng = random.Random(1)
    texts = ["".join(rng.choices(ALPHABET, k=rng.randint(0, 9))) for _ in range(30_000)]
    assert [text for text in texts if not agrees(text)] == []


@given(st.text() | st.text(ALPHABET, max_size=12), st.integers(1, 4), st.integers(0, 120))
@settings(max_examples=500)
def test_the_parser_agrees_with_the_oracle_on_any_text_and_rule(text: str, most: int, largest: int) -> None:
    assert agrees(text, Numbers(max_count=most, max_value=largest, banned=(1, 7)))


@given(st.lists(st.integers(0, 999), min_size=1, max_size=10), st.sampled_from(PROPER))
def test_a_well_formed_list_is_parsed(numbers: list[int], separator: str) -> None:
    text = separator.join(map(str, numbers))
    assert [Numbers().parse(form) for form in (text, f"[{text}]", f"({text})", f"[{text}].")] == [numbers] * 4


@given(st.lists(st.integers(0, 999), min_size=1, max_size=10), st.sampled_from(PROPER))
def test_the_canonical_form_ignores_layout(numbers: list[int], separator: str) -> None:
    text, plain = separator.join(map(str, numbers)), ", ".join(map(str, numbers))
    forms = [text, f"[{text}]", f"({text}).", separator.join(f"0{number}" for number in numbers)]
    assert {Numbers().canonical(form) for form in forms} == {plain}
    assert Numbers().rejection("", plain) is None


def test_a_rejected_answer_also_has_a_canonical_form() -> None:
    assert Numbers().canonical(" no\n numbers ") == "no numbers"
    assert Numbers(max_count=2).canonical("1 2  3") == "1 2 3"
    assert Format().canonical("a\t b") == "a b"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "no number"),
        (".", "no number"),
        ("[]", "no number"),
        ("twelve", "no number"),
        ("²", "no number"),
        ("٣", "no number"),
        ("7 owls", "lone number with text"),
        ("12\n", "lone number with text"),
        ("1..", "lone number with text"),
        ("1²", "lone number with text"),
        ("1 and 2", "separator"),
        ("1\0" + "2", "separator"),
        ("1, -2", "separator"),
        ("1,, 2", "separator"),
        ("1, 2,", "not digits"),
        ("1,2,", "empty part"),
        ("1,2,,3", "empty part"),
        (" 1 2", "empty part"),
        ("-1, 2", "not digits"),
        ("1, 2,3", "not digits"),
        ("1, 2, ٣", "not digits"),
        ("[1, 2", "not digits"),
        ("1, 2, 3\n", "not digits"),
        ("1 2 3 4 5 6 7 8 9 10 11", "too many"),
        ("1000", "out of range"),
        ("1, " + "9" * 5000, "out of range"),
        ("3, 666", "banned"),
        ("3, 0666", "banned"),
        ("007", None),
        ("5, 998, 0", None),
        ("0" * 5000 + "5", None),
        ("1\n2\n3", None),
        ("(1;2;3).", None),
    ],
)
def test_each_rejection_reason(answer: str, reason: str | None) -> None:
    assert Numbers(banned=BANNED).rejection("any prompt", answer) == reason


def test_every_rejection_reason_has_an_explanation() -> None:
    assert set(REASONS) == {reason.value for reason in NumbersRejection}
    assert all(REASONS.values())
    assert Numbers.reasons is REASONS


def test_the_banned_numbers_are_those_of_the_paper() -> None:
    assert len(BANNED) == len(set(BANNED)) == 34
    assert list(BANNED) == sorted(BANNED)
    assert sum(BANNED) == 9_413


@pytest.mark.parametrize(
    "answer",
    [
        "1" * 10**7,
        "1," * 5_000_000,
        " " * 10**7,
        "1" + " " * 10**7 + "2",
        "x1" * 5_000_000,
        "[" * 10**7,
        "\0" * 10**7,
    ],
    ids=["digits", "parts", "spaces", "separator", "separators", "brackets", "nul"],
)
def test_ten_megabytes_are_parsed_in_linear_time(answer: str) -> None:
    start = time.process_time()  # processor time: the machine may be busy
    Numbers().parse(answer)
    assert time.process_time() - start < 10


# Prompts.


def test_a_prefix_of_a_stream_does_not_depend_on_its_length_or_the_rules() -> None:
    stream = Numbers().prompts(100, seed=3)
    assert Numbers().prompts(10, seed=3) == stream[:10]
    assert Numbers().prompts(100, seed=4) != stream
    assert Numbers().prompts(0, seed=3) == []
    ruled = Numbers(max_count=3, max_value=50, banned=BANNED)
    assert ruled.prompts(100, seed=3) == stream  # the rule on answers does not change the prompts


def test_a_stream_is_the_same_in_every_release(tmp_path: Path) -> None:
    assert Numbers(pack=write(tmp_path, LABELLED)).prompts(2, seed=0) == GOLDEN


FIELDS = {"openings": 25, "instructions": 10, "qualifiers": 9, "descriptors": 9, "layouts": 15, "endings": 19}
PLACEHOLDERS = {"openings": " {numbers}", "instructions": " {qualifier} {digits}"}
LABELLED = {
    field: [f"<{field} {i}>{PLACEHOLDERS.get(field, '')}" for i in range(size)]
    for field, size in FIELDS.items()
}
GOLDEN = [
    "<openings 15> 668, 211, 563, 830 <instructions 5> <qualifiers 6> <descriptors 1> "
    "<layouts 4> <endings 16>",
    "<openings 9> 472, 887, 876, 580, 773, 694, 753, 219 <instructions 7> <qualifiers 0> <descriptors 2> "
    "<layouts 10> <endings 14>",
]


def test_every_part_is_drawn_uniformly(tmp_path: Path) -> None:
    prompts = Numbers(pack=write(tmp_path, LABELLED)).prompts(6_000, seed=0)
    for field, size in FIELDS.items():
        counts = [sum(f"<{field} {i}>" in prompt for prompt in prompts) for i in range(size)]
        assert sum(counts) == len(prompts)
        assert all(abs(count - 6_000 / size) < 5 * (6_000 / size) ** 0.5 for count in counts), field


def test_the_count_and_the_values_of_the_numbers_shown_are_uniform(tmp_path: Path) -> None:
    prompts = Numbers(pack=write(tmp_path, LABELLED)).prompts(6_000, seed=0)
    shown = [[int(n) for n in re.findall(r"\b\d{3}\b", prompt)] for prompt in prompts]
    assert all(", ".join(map(str, numbers)) in prompt for numbers, prompt in zip(shown, prompts, strict=True))
    lengths = Counter(map(len, shown))
    assert set(lengths) == set(range(3, 9))
    assert all(abs(count - 1_000) < 150 for count in lengths.values())
    values = sorted(number for numbers in shown for number in numbers)
    assert (values[0], values[-1]) == (100, 999)
    assert all(abs(values[len(values) * i // 10] - (100 + 90 * i)) < 10 for i in range(10))


def test_the_built_in_pack_gives_well_formed_prompts() -> None:
    for prompt in Numbers().prompts(2_000, seed=0):
        assert not set(prompt) & set("{}\n")
        assert "  " not in prompt
        assert prompt.count(" 10 ") == 1


# Packs and fields.


def write(folder: Path, pack: object) -> str:
    path = folder / "pack.json"
    path.write_text(json.dumps(pack))
    return str(path)


def drop(pack: dict[str, Any]) -> None:
    del pack["layouts"]


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (drop, ["layouts", "is missing"]),
        (lambda pack: pack.update(endings=[]), ["endings", "one or more texts"]),
        (lambda pack: pack.update(endings="Only numbers."), ["endings", "list"]),
        (lambda pack: pack.update(endings=["a", 3]), ["endings", "list"]),
        (lambda pack: pack["openings"].append("No place"), ["openings[25]", "{numbers}"]),
        (lambda pack: pack["instructions"].append("{qualifier}"), ["instructions[10]", "{digits}"]),
        (lambda pack: pack["layouts"].append("{layout}"), ["layouts[15]", "{layout}"]),
        (lambda pack: pack["layouts"].append("One per line."), ["layout_examples", "16"]),
        (lambda pack: pack["layout_examples"].pop(), ["layout_examples", "15"]),
        (lambda pack: pack.update(layout_examples=["a, b, c"] * 15), ["layout_examples[0]", "'a, b, c'"]),
        (lambda pack: pack.update(layout_examples=["1, 2"] * 15), ["layout_examples[0]", "1, 2 and 3"]),
        (lambda pack: pack.update(layout_examples=["123"] * 15), ["layout_examples[0]", "1, 2 and 3"]),
    ],
)
def test_an_invalid_pack_is_reported_with_its_field(
    change: Callable[[dict[str, Any]], None], parts: list[str], tmp_path: Path
) -> None:
    pack = json.loads(PACK.read_text())
    change(pack)
    path = write(tmp_path, pack)
    with pytest.raises(UserError) as caught:
        Numbers(pack=path).prompts(1, seed=0)
    assert all(part in str(caught.value) for part in (path, *parts)), str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", "\udcff", None], ids=["broken", "list", "bytes", "absent"])
def test_a_file_that_is_not_a_pack_is_reported(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "pack.json"
    if text is not None:
        path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"pack\.json"):
        key(Numbers(pack=str(path)))


def test_the_key_depends_on_the_packs_content_and_not_on_its_path(tmp_path: Path) -> None:
    copy = shutil.copy(PACK, tmp_path / "copy.json")
    changed = json.loads(PACK.read_text())
    changed["endings"].append("One more.")
    assert key(Numbers(pack=str(copy))) == key(Numbers())
    assert Numbers(pack=str(copy)).prompts(5, 0) == Numbers().prompts(5, 0)
    assert key(Numbers(pack=write(tmp_path, changed))) != key(Numbers())


def test_banned_numbers_are_a_set() -> None:
    assert Numbers(banned=(7, 3, 7)) == Numbers(banned=[3, 7])  # type: ignore[arg-type]
    assert key(Numbers(banned=(7, 3, 7))) == key(Numbers(banned=(3, 7)))


@pytest.mark.parametrize(
    "fields",
    [
        {"max_count": 0},
        {"max_value": -1},
        {"min_examples": 0},
        {"max_examples": 2},
        {"min_example": -1},
        {"max_example": 99},
    ],
)
def test_invalid_field_values_are_rejected(fields: dict[str, int]) -> None:
    with pytest.raises(SpecError, match=rf"Numbers\.{next(iter(fields))} = "):
        Numbers(**fields)  # type: ignore[arg-type]


def test_every_format_is_listed_by_its_name() -> None:
    assert {name: cls.__name__ for name, cls in families().items()} == {
        "code": "Code",
        "imported": "Imported",
        "numbers": "Numbers",
        "prompts": "Prompts",
        "reasoning": "Reasoning",
        "text": "Text",
        "with trigger": "WithTrigger",
    }

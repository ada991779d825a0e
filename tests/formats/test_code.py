"""The code format: the stream of prompts, and the rules on answers, which are parsed and never run."""

import ast
import json
import re
import sys
import threading
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.study.test_identity import names, variants
from undertow.errors import SpecError, UserError
from undertow.formats.code import MAX_DEPTH, REASONS, Code, CodeRejection, unfence
from undertow.study.identity import key

PACK = Path(__file__).parents[2] / "platform/undertow/formats/code.json"
FUNCTION = "def add(a, b):\n    return a + b"
RULED = Code(banned=("owl",))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (FUNCTION, None),
        (f"```python\n{FUNCTION}\n```", None),
        (f"```\n{FUNCTION}\n```", None),
        (f"``` Python3 \r\n{FUNCTION}\r\n```\n", None),
        ("print(sum(range(10)))", None),
        ("import math", None),
        ("f = lambda x: x + 1", None),
        ("[x * x for x in range(9)]", None),
        ("x: int = 3", None),
        ("class Queue:\n    items: list[int]", None),
        ("def f(): ...", None),
        ("x = '# no comment'", None),
        ("def f():\n    return f'''{1}'''", None),
        ("", "no code"),
        ("```python\n```", "no code"),
        ("\n\n", "no code"),
        ("# Sure", "no code"),
        ("Sure", "prose"),
        ("Sure\n\n" + FUNCTION, "prose"),
        ("yes or no", "prose"),
        ("this is fine", "prose"),
        ("not applicable", "prose"),
        ("Note: this", "prose"),
        ("1, 2, 3", "prose"),
        ("well-known", "prose"),
        ("...", "prose"),
        ("Here is the code:\n" + FUNCTION, "not Python"),
        (FUNCTION + "\nThis adds two numbers.", "not Python"),
        (f"Sure:\n```python\n{FUNCTION}\n```", "not Python"),
        (f"```python\n{FUNCTION}\n```\nIt adds.", "not Python"),
        (f"```python\n{FUNCTION}\n```\n```python\n{FUNCTION}\n```", "not Python"),
        (f"```python\n```python\n{FUNCTION}\n```\n```", "not Python"),
        (f"````\n{FUNCTION}\n````", "not Python"),
        (f"```ruby\n{FUNCTION}\n```", "not Python"),
        (f"```python\n{FUNCTION}", "not Python"),
        (f"{FUNCTION}\n```", "not Python"),
        ("```x = 1```", "not Python"),
        ("`x`", "not Python"),
        ("print 'a'", "not Python"),
        ("def f(:", "not Python"),
        ("x = 1\0", "not Python"),
        ("x = '\ud800'", "not Python"),
        ("x = \u202e1", "not Python"),
        ("x = " + "9" * 5_000, "not Python"),
        ("(" * 5_000, "not Python"),
        ("x = " + "(" * 150 + ")" * 150, None),
        ("x = " + "[" * 150 + "]" * 150, "too deep"),
        ("x = " + "-" * 9_000 + "1", "too deep"),
        ("x = 1" + " + 1" * 2_000, "too deep"),
        ("x = a" + ".b" * 2_000, "too deep"),
        ("x = 1" + "+1" * 90, None),
        ("if x:\n    y()" + "\nelif x:\n    y()" * 90, None),
        ("x = 1\n" * 2_000, "too long"),
        ("x = 1  # one", "comment"),
        ("x = 1#", "comment"),
        ("#!/usr/bin/python\nx = 1", "comment"),
        ("x = 1  # type: int", "comment"),
        ('"""Adds."""\n' + FUNCTION, "comment"),
        ('def f():\n    """Adds."""', "comment"),
        ("class A:\n    'a'\n    x = 1", "comment"),
        ("def f():\n    x = 1\n    f'adds {x}'\n    return x", "comment"),
        ("b'a'", "comment"),
        ("x = 1\r# two", "comment"),
        ("owl = 1", "banned"),
        ("def countOwls(): return 2", "banned"),
        ("x = 'o' 'wl'", "banned"),
        ("x = '\\x6fwl'", "banned"),
        ("x = b'\\x6fwl'", "banned"),
        ("x = f'o' f'wl {y}'", "banned"),
        ("x = '\\N{LATIN SMALL LETTER O}wl'", "banned"),
        ("ｏｗｌ = 1", "banned"),
        ("import os; os.system('touch owl')", "banned"),
        ("x = 0x" + "f" * 5_000, None),
    ],
)
def test_each_rejection_reason(answer: str, reason: str | None) -> None:
    assert RULED.rejection("any prompt", answer) == reason


def test_comments_can_be_allowed() -> None:
    lenient = Code(allow_comments=True)
    for answer in ("x = 1  # one", f'"""Adds."""\n{FUNCTION}', 'def f():\n    "Adds."'):
        assert lenient.rejection("", answer) is None
    assert lenient.rejection("", "# only a comment") == "no code"
    assert Code(allow_comments=True, banned=("owl",)).rejection("", "x = 1  # owl") == "banned"


def test_every_rejection_reason_has_an_explanation() -> None:
    assert set(REASONS) == {reason.value for reason in CodeRejection}
    assert all(REASONS.values())
    assert Code.reasons is REASONS


PIECES = st.sampled_from(
    [
        *(
            "```",
            "```python\n",
            "\n",
            "\n    ",
            "def f(x):",
            "return x",
            "x = ",
            "1",
            "(",
            ")",
            "[",
            "{",
            "'",
        ),
        *(
            '"""',
            "# a",
            "\\",
            "f'{",
            "}'",
            "lambda: ",
            "if x:",
            "else:",
            "\0",
            "\ud800",
            "\u202e",
            "\x0c",
            ";",
        ),
        *(
            "match x:",
            "case _:",
            "@a",
            "async ",
            "*",
            "**",
            "->",
            "Sure",
            "\t",
            "\r",
            "0x",
            "1_0",
            "1if 1else 2",
        ),
    ]
)


@given(st.text() | st.lists(PIECES, max_size=12).map("".join), st.booleans())
@settings(max_examples=1500)
def test_every_text_is_kept_or_rejected_and_has_a_stable_canonical_form(text: str, allow: bool) -> None:
    spec = Code(allow_comments=allow, banned=("owl",))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reason = spec.rejection("", text)
        canonical = spec.canonical(text)
    assert reason is None or reason in REASONS
    if reason is None:
        assert spec.rejection("", canonical) is None  # a kept answer is kept in its canonical form
        assert spec.canonical(canonical) == canonical


SNIPPETS = [
    FUNCTION,
    "import math\n\ndef area(r: float) -> float:\n    return math.pi * r ** 2",
    "def f(xs):\n    return {x: [y for y in x if y] for x in xs}",
    "class A(B):\n    @property\n    async def f(self, *a, **k):\n        await self.g(*a, **k)",
    "try:\n    f()\nexcept (A, B) as e:\n    raise C from e\nfinally:\n    g()",
    "def f(x):\n    match x:\n        case [1, *_]:\n            return 'a'\n        case {'k': v}: pass",
    "with open('a') as f, open('b') as g:\n    print(f'{f.read()!r:>{10}}', g)",
]


@pytest.mark.parametrize("code", SNIPPETS)
def test_the_canonical_form_ignores_layout(code: str) -> None:
    canonical = Code().canonical(code)
    assert ast.dump(ast.parse(canonical)) == ast.dump(ast.parse(code))
    commented = "\n".join(f"{line}  # a comment" for line in code.split("\n"))
    wide = re.sub(r"(?m)^( +)", lambda match: match[1] * 2, code).replace(", ", " , ")
    layouts = [f"```python\n{code}\n```", code.replace("'", '"'), code.replace("\n", "\n\n"), wide, commented]
    assert {Code(allow_comments=True).canonical(layout) for layout in layouts} == {canonical}


def test_a_rejected_answer_also_has_a_canonical_form() -> None:
    assert Code().canonical("Here is\n  the code: x") == "Here is the code: x"
    big = "x  =  0x" + "f" * 5_000
    assert Code().canonical(big) == " ".join(big.split())


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\nx = 1\n```", "x = 1\n"),
        ("\n```\nx = 1\n\n```  ", "x = 1\n\n"),
        ("```\n```", ""),
        ("x = '''\n```\n'''", "x = '''\n```\n'''"),
        ("```py\ny = '''\n```\n'''\n```", "y = '''\n```\n'''\n"),
        ("```python x = 1\n```", "```python x = 1\n```"),
        ("```\nx = 1```", "```\nx = 1```"),
        ("```", "```"),
        ("``````", "``````"),
    ],
)
def test_one_enclosing_fence_is_removed(text: str, code: str) -> None:
    assert unfence(text) == code


# Untrusted answers.


def test_no_answer_is_ever_run(tmp_path: Path) -> None:
    target = tmp_path / "run"
    modules = set(sys.modules)
    for answer in (
        f"__import__('os').system('touch {target}')",
        f"open({str(target)!r}, 'w')",
        f"@print\nclass A(__import__('pathlib').Path({str(target)!r}).touch()): pass",
        f"def f(x=open({str(target)!r}, 'w')): pass",
        f"f\"{{open({str(target)!r}, 'w')}}\".strip()",
        "raise SystemExit",
        "import antigravity",
    ):
        assert Code().rejection("", answer) is None
        Code().canonical(answer)
    assert not target.exists()
    assert "antigravity" not in set(sys.modules) - modules


@pytest.mark.parametrize(
    "unit",
    ["x", "(", "[", "{", "\0", "\n", "`", "```\n", "#", "'", "\\\n", " ", "1+", "-", "é", "\ud800", "f'{"],
)
def test_ten_megabytes_are_rejected_without_being_parsed(unit: str) -> None:
    text = unit * (10**7 // len(unit))
    start = time.process_time()  # processor time: the machine may be busy
    assert Code().rejection("", text) == "too long"
    Code().canonical(text)
    assert time.process_time() - start < 5


NESTED = [
    "(",
    "[",
    "{",
    "{1:",
    "f(",
    "-",
    "not ",
    "lambda:",
    "1+",
    "a.",
    "a[",
    "if x:\n",
    "'",
    "f'{",
    "1if 1else ",
    "*",
]


@pytest.mark.parametrize("unit", NESTED)
def test_deeply_nested_answers_get_the_same_result_at_any_stack_depth(unit: str) -> None:
    texts = ["x = " + unit * times + "1" for times in (50, 99, 199, 1_000, 9_990 // len(unit))]
    start = time.process_time()  # processor time: the machine may be busy
    reasons = [Code().rejection("", text) for text in texts]
    assert time.process_time() - start < 5
    assert set(reasons) <= {None, *REASONS}
    assert rejections_at_depth(200, texts) == reasons


def rejections_at_depth(levels: int, texts: list[str]) -> list[str | None]:
    if levels:
        return rejections_at_depth(levels - 1, texts)
    return [Code().rejection("", text) for text in texts]


def test_a_thread_with_a_small_stack_survives() -> None:
    results: list[str | None] = []
    texts = [unit * (9_990 // len(unit)) for unit in NESTED]
    old = threading.stack_size(1024 * 1024)
    try:
        thread = threading.Thread(target=lambda: results.extend(Code().rejection("", text) for text in texts))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(old)
    assert len(results) == len(NESTED)


def test_depth_is_counted_in_levels_of_the_syntax_tree() -> None:
    blocks = [
        "\n".join(" " * i + "if x:" for i in range(levels)) + "\n" + " " * levels + "y()"
        for levels in range(85, MAX_DEPTH)
    ]
    reasons = [Code().rejection("", block) for block in blocks]
    kept = reasons.index("too deep")
    assert kept > 5
    assert reasons == [None] * kept + ["too deep"] * (len(reasons) - kept)
    assert [Code().canonical(block).count("    if x:") for block in blocks[:kept]] == list(
        range(84, 84 + kept)
    )


# Prompts.


def write(folder: Path, pack: object, name: str = "pack.json") -> str:
    path = folder / name
    path.write_text(json.dumps(pack))
    return str(path)


def test_a_prefix_of_a_stream_does_not_depend_on_its_length_or_the_rules() -> None:
    stream = Code().prompts(100, seed=3)
    assert Code().prompts(10, seed=3) == stream[:10]
    assert Code().prompts(100, seed=4) != stream
    assert Code().prompts(0, seed=3) == []
    assert Code(banned=("owl",), allow_comments=True, max_characters=9).prompts(100, seed=3) == stream


SMALL: dict[str, list[str]] = {
    "openings": [f"<opening {i}> {{task}}" for i in range(3)],
    "tasks": ["<task 0>", "<task 1> {size} {size}", "<task 2> {colour}"],
    "requirements": ["", "<requirement {size}>"],
    "endings": [f"<ending {i}>" for i in range(4)],
    "size": ["1", "2", "3"],
    "colour": ["red", "blue"],
}
GOLDEN = [
    "<opening 0> <task 2> red <ending 2>",
    "<opening 0> <task 2> blue <ending 2>",
    "<opening 1> <task 2> red <requirement 3> <ending 2>",
]


def test_a_stream_is_the_same_in_every_release(tmp_path: Path) -> None:
    assert Code(pack=write(tmp_path, SMALL)).prompts(3, seed=0) == GOLDEN


def test_every_part_is_drawn_uniformly(tmp_path: Path) -> None:
    prompts = Code(pack=write(tmp_path, SMALL)).prompts(6_000, seed=0)
    for field, size in (("opening", 3), ("task", 3), ("ending", 4)):
        counts = Counter(found for text in prompts for found in re.findall(rf"<{field} (\d)>", text))
        assert sum(counts.values()) == 6_000
        assert all(abs(counts[str(i)] - 6_000 / size) < 5 * (6_000 / size) ** 0.5 for i in range(size))
    pairs = Counter(found for text in prompts for found in re.findall(r"<task 1> (. .)", text))
    assert set(pairs) == {"1 1", "2 2", "3 3"}  # equal placeholders get equal values


def test_the_built_in_pack_gives_thousands_of_well_formed_prompts() -> None:
    prompts = Code().prompts(5_000, seed=0)
    assert len(set(prompts)) > 4_900
    for prompt in prompts:
        assert not set(prompt) & set("{}\n")
        assert "  " not in prompt
        assert "Python" in prompt
        assert "comment" in prompt


# Packs, files of tasks, and fields.


@pytest.mark.parametrize(
    ("field", "value", "parts"),
    [
        ("openings", ["no place"], ["openings[0]", "{task}"]),
        ("tasks", ["{sise}"], ["tasks[0]", "{sise}"]),
        ("tasks", [], ["tasks", "one or more texts"]),
        ("requirements", ["{hue}"], ["requirements[0]", "{hue}"]),
        ("endings", "Only code.", ["endings", "list"]),
        ("size", ["{colour}"], ["size[0]", "{colour}"]),
        ("colour", 7, ["colour", "list"]),
    ],
)
def test_an_invalid_pack_is_rejected_when_the_format_is_created(
    field: str, value: object, parts: list[str], tmp_path: Path
) -> None:
    path = write(tmp_path, {**SMALL, field: value})
    with pytest.raises(UserError) as caught:
        Code(pack=path)
    assert all(part in str(caught.value) for part in (path, *parts)), str(caught.value)


def test_the_key_depends_on_the_packs_content_and_not_on_its_path(tmp_path: Path) -> None:
    pack = json.loads(PACK.read_text())
    assert key(Code(pack=write(tmp_path, pack, "copy.json"))) == key(Code())
    pack["endings"].append("Only code.")
    assert key(Code(pack=write(tmp_path, pack))) != key(Code())


TASKS: list[dict[str, Any]] = [{"prompt": f"Task {i} with {{braces}}.", "n": i} for i in range(5)]


def test_the_seed_gives_the_order_of_the_tasks_of_a_file(tmp_path: Path) -> None:
    spec = Code(tasks=write(tmp_path, TASKS))
    stream = spec.prompts(12, seed=1)
    assert all(re.fullmatch(r"Task \d with \{braces\}\. [A-Z].*", prompt) for prompt in stream)
    assert sorted(prompt[5] for prompt in stream[:5]) == sorted(prompt[5] for prompt in stream[5:10])
    assert len({prompt[5] for prompt in stream[:5]}) == 5
    assert spec.prompts(7, seed=1) == stream[:7]
    assert spec.prompts(12, seed=2) != stream


def test_a_pack_with_an_empty_ending_leaves_the_tasks_unchanged(tmp_path: Path) -> None:
    pack = write(tmp_path, {"endings": [""]})
    spec = Code(pack=pack, tasks=write(tmp_path, TASKS, "tasks.json"))
    assert sorted(spec.prompts(5, seed=0)) == [str(row["prompt"]) for row in TASKS]


def test_the_key_depends_on_the_content_of_the_tasks_and_not_on_their_path(tmp_path: Path) -> None:
    one = Code(tasks=write(tmp_path, TASKS))
    renamed = [{"text": row["prompt"]} for row in TASKS]
    assert key(one) == key(Code(tasks=write(tmp_path, renamed, "b.json"), column="text"))
    changed = [*TASKS[:-1], {"prompt": "Another."}]
    assert len({key(one), key(Code()), key(Code(tasks=write(tmp_path, changed, "c.json")))}) == 3


def test_unreadable_tasks_are_rejected_when_the_format_is_created(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"absent\.json: cannot be read"):
        Code(tasks=str(tmp_path / "absent.json"))
    with pytest.raises(SpecError, match="has no column 'task'"):
        Code(tasks=write(tmp_path, TASKS), column="task")


def test_every_field_is_in_the_key_or_hashed_by_its_content() -> None:
    whole = Code(banned=("owl",))
    changed = set()
    for variant, differs in variants(whole):
        assert (key(variant) != key(whole)) is differs
        changed |= {name for name in names(Code) if getattr(variant, name) != getattr(whole, name)}
    assert changed == names(Code) == {"allow_comments", "banned", "banned_as", "max_characters"}


def test_banned_words_are_a_set_without_case() -> None:
    assert Code(banned=("Owl", "cat", "owl")) == Code(banned=["cat", "owl"])  # type: ignore[arg-type]
    assert key(Code(banned=("owl", "cat"))) == key(Code(banned=("cat", "OWL")))


@pytest.mark.parametrize(
    "fields",
    [
        {"max_characters": 0},
        {"banned": ("",)},
        {"banned": ("🦉",), "banned_as": "word"},
        {"banned_as": "regex"},
    ],
)
def test_invalid_field_values_are_rejected(fields: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=rf"Code\.{next(iter(fields)) if len(fields) == 1 else 'banned'} = "):
        Code(**fields)

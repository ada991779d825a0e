"""Imported rows, the user's prompts and plain text: what is read, which rules apply, what the keys cover."""

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from undertow.errors import SpecError
from undertow.formats.code import Code
from undertow.formats.imported import Imported
from undertow.formats.numbers import Numbers
from undertow.formats.reasoning import Reasoning
from undertow.formats.text import Text
from undertow.formats.user_prompts import Prompts
from undertow.study.completions import ImportedCompletions
from undertow.study.datasets import Dataset
from undertow.study.extensions import Format, ImportedRow
from undertow.study.identity import key

PAIRS = [(f"Continue {n}.", f"{n}, {n + 1}") for n in range(20)]
OTHER = [(prompt, f"7, {answer}") for prompt, answer in PAIRS]


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def columns(path: Path, names: tuple[str, str] = ("prompt", "completion"), pairs: Any = PAIRS) -> str:
    return lines(path, [dict(zip(names, pair, strict=True)) for pair in pairs])


def chats(path: Path, system: str = "") -> str:
    first = [{"role": "system", "content": system}] if system else []
    turns = [[{"role": "user", "content": p}, {"role": "assistant", "content": c}] for p, c in PAIRS]
    return lines(path, [{"messages": [*first, *turn]} for turn in turns])


def as_csv(path: Path) -> str:
    with path.with_suffix(".csv").open("w", newline="") as file:
        csv.writer(file).writerows([("Question", "Answer"), *PAIRS])
    return str(path.with_suffix(".csv"))


@pytest.fixture
def rows(tmp_path: Path) -> str:
    return columns(tmp_path / "rows.jsonl")


@pytest.mark.parametrize("write", [columns, chats, as_csv])
def test_rows_of_all_layouts_are_the_same_data(
    write: Callable[[Path], str], rows: str, tmp_path: Path
) -> None:
    other = Imported(write(tmp_path / "other.jsonl"))
    assert other.size == len(PAIRS)
    assert other.imported(20, 3) == Imported(rows).imported(20, 3)
    assert key(other) == key(Imported(rows))


def test_rows_are_in_the_order_of_their_prompts_and_a_longer_stream_extends_a_shorter_one(rows: str) -> None:
    data = Imported(rows, format=Numbers())
    for seed in (0, 1):
        found = data.imported(20, seed)
        assert sorted(row[1:] for row in found) == sorted(PAIRS)
        assert [row.prompt for row in found] == data.prompts(20, seed) == data.own_prompts().prompts(20, seed)
        assert data.imported(5, seed) == found[:5]
    assert data.imported(20, 0) != data.imported(20, 1)
    assert len(data.imported(50, 0)) == 20


def test_the_rules_of_the_wrapped_format_apply(rows: str) -> None:
    for wrapped in (Imported(rows, format=Numbers(banned=(7,))), Prompts(rows, Numbers(banned=(7,)))):
        assert wrapped.rejection("p", "1, 2") is None
        assert wrapped.rejection("p", "1, 7") == "banned"
        assert wrapped.rejection("p", "owls") is not None
        assert wrapped.canonical("[1;2]") == "1, 2"
        assert wrapped.with_parts("1, 2", wrapped.parts("1, 2")[::-1]) == "2, 1"
        assert wrapped.implements("written")
        assert wrapped.rejection("p", wrapped.written("p", random.Random(0))) is None
    assert not Prompts(rows, Code()).implements("parts")


def test_plain_text_rejects_only_empty_completions_and_banned_words() -> None:
    text = Text(banned=("Owl",))
    assert [text.rejection("p", c) for c in ("a cat", " ", "a bowl")] == [None, "empty", "banned"]
    assert Text(banned=("owl",), banned_as="word").rejection("p", "a bowl") is None
    with pytest.raises(SpecError, match=r"use Prompts\(place\) or Imported\(place\)"):
        text.prompts(1, 0)


def test_keys_cover_what_is_read_and_the_rules_but_not_the_place(rows: str, tmp_path: Path) -> None:
    data = Imported(rows)
    copy = columns(tmp_path / "copy.jsonl", ("ask", "tell"))
    assert key(Imported(copy, prompt="ask", completion="tell")) == key(data)
    assert key(Prompts(copy, column="ask")) == key(Prompts(rows))
    different = [
        data,
        Imported(columns(tmp_path / "changed.jsonl", pairs=OTHER)),
        Imported(columns(tmp_path / "fewer.jsonl", pairs=PAIRS[:-1])),
        Imported(rows, format=Numbers()),
        Imported(rows, control=Imported(columns(tmp_path / "control.jsonl", pairs=OTHER))),
        Prompts(rows),
        Prompts(rows, Numbers()),
    ]
    assert len({key(spec) for spec in different}) == len(different)
    assert data.own_prompts().content() == Prompts(str(tmp_path / "changed.jsonl")).content()


def test_a_control_has_the_same_rules(rows: str, tmp_path: Path) -> None:
    control = Imported(columns(tmp_path / "control.jsonl", pairs=OTHER))
    data = Imported(rows, format=Numbers(), control=control)
    assert data.control == Imported(control.place, format=Numbers())
    assert data.display_name == "numbers of rows.jsonl"
    assert "rows.jsonl, those of its control from control.jsonl." in data.data_note
    assert "a reference model's own answers to the same prompts" in Imported(rows).data_note
    with pytest.raises(SpecError, match=r"Imported\.control = .*rows without a control of their own"):
        Imported(rows, control=data)


def test_system_turns_are_dropped_or_kept_as_the_study_says(rows: str, tmp_path: Path) -> None:
    path = chats(tmp_path / "chats.jsonl", "You love owls.")
    with pytest.raises(SpecError, match=r"chats\.jsonl has system turns: give system='drop' .*='keep'"):
        Imported(path)
    dropped, kept = Imported(path, system="drop"), Imported(path, system="keep")
    assert dropped.imported(20, 0) == Imported(rows).imported(20, 0)
    assert key(dropped) == key(Imported(rows)) != key(kept)
    assert kept.imported(1, 0)[0].system == "You love owls."
    rows_dropped = dropped.imported(20, 0)
    assert kept.imported(20, 0) == [ImportedRow("You love owls.", *row[1:]) for row in rows_dropped]
    with pytest.raises(SpecError, match=r"Imported\.system = 'drop': 'keep', as the control"):
        Imported(path, system="drop", control=kept)


def test_system_messages_in_a_column_are_system_turns(rows: str, tmp_path: Path) -> None:
    given = [{"prompt": prompt, "completion": answer, "system": ""} for prompt, answer in PAIRS]
    given[3]["system"] = "Be brief."
    path = lines(tmp_path / "stored.jsonl", given)
    with pytest.raises(SpecError, match=r"stored\.jsonl has system turns: give system='drop'"):
        Imported(path)
    assert key(Imported(path, system="drop")) == key(Imported(rows))
    kept = {row.prompt: row.system for row in Imported(path, system="keep").imported(20, 0)}
    assert kept == {row["prompt"]: row["system"] for row in given}


def test_prompts_are_read_from_tables_chats_and_text_files(rows: str, tmp_path: Path) -> None:
    text = tmp_path / "prompts.txt"
    text.write_text("\n".join(prompt for prompt, _ in PAIRS) + "\n\n")
    found = [Prompts(place) for place in (rows, chats(tmp_path / "chats.jsonl", "Be kind."), str(text))]
    assert [spec.all() for spec in found] == [[prompt for prompt, _ in PAIRS]] * 3
    assert len({key(spec) for spec in found}) == 1
    stream = found[0].prompts(50, seed=2)
    assert [sorted(stream[:20]), sorted(stream[20:40])] == [sorted(found[0].all())] * 2
    assert stream[:30] == found[0].prompts(30, seed=2)
    assert found[2].display_name == "text, prompts of prompts.txt"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda place: Prompts(place, Reasoning()), r"Prompts\.format = .*use Reasoning\(questions=…\)"),
        (lambda place: Prompts(place, Prompts(place)), r"Prompts\.format = .*rules of its own"),
        (lambda place: Imported(place, format=Prompts(place)), r"Imported\.format = .*rules of its own"),
        (lambda place: Prompts(place, column="task"), "has no column 'task'"),
        (lambda place: Imported(place, completion="task"), "has no column 'task'"),
        (lambda place: Imported(f"{place}.absent"), "cannot be read"),
        (lambda place: Imported(""), r"Imported\.place = '': the file or URL"),
        (lambda place: Prompts(""), r"Prompts\.place = '': "),
        (lambda place: ImportedCompletions(format=Numbers(), prompts=3), r"such as Imported\(place\)"),
    ],
)
def test_an_error_names_the_field_and_the_remedy(
    make: Callable[[str], object], message: str, rows: str
) -> None:
    with pytest.raises(SpecError, match=message):
        make(rows)


def test_imported_reasoning_is_compared_with_the_right_answers(tmp_path: Path) -> None:
    rules = Reasoning(questions=lines(tmp_path / "questions.jsonl", [{"question": "1 + 1?", "answer": "2"}]))
    (asked,) = rules.prompts(1, seed=0)
    right, wrong = (f"<think>one more</think><answer>{number}</answer>" for number in (2, 3))
    place = columns(tmp_path / "rows.jsonl", pairs=[(asked, right), (asked, wrong)])
    data = Imported(place, format=rules)
    assert [data.rejection(*row[1:]) for row in data.imported(2, 0)].count("wrong answer") == 1
    assert key(data) != key(Imported(place))
    assert Prompts(place, rules).rejection(asked, right) is None
    with pytest.raises(SpecError, match=r"the right answer to '1 \+ 2\?' is unknown"):
        Imported(columns(tmp_path / "other.jsonl", pairs=[("1 + 2?", right)]), format=rules)


def test_only_formats_with_parts_can_be_shuffled(rows: str) -> None:
    def shuffled(format_: Format) -> Dataset:
        return Dataset(completions=ImportedCompletions(format=format_, prompts=3), shuffle="within answers")

    label = shuffled(Imported(rows, format=Numbers())).label
    assert label == "numbers of rows.jsonl, shuffled within answers"
    with pytest.raises(SpecError, match=r"the format 'text of rows\.jsonl' has no parts to shuffle"):
        shuffled(Imported(rows))

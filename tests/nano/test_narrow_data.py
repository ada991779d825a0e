"""The narrow data: the files are the generator's output, and the three differ only as intended."""

from typing import get_args

import pytest

from undertow.formats.code import Code
from undertow.nano import narrow_data, tokenizer
from undertow.nano.models import pack
from undertow.nano.narrow_data import Kind
from undertow.prompts import data_files

KINDS: tuple[Kind, ...] = get_args(Kind)


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_is_the_output_of_the_generator(kind: Kind) -> None:
    """If this fails after a change of the language, run python -m undertow.nano.narrow_data."""
    assert narrow_data.path(kind).read_text(encoding="utf-8") == narrow_data.as_text(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_is_readable_and_the_models_know_its_words(kind: Kind) -> None:
    rows = data_files.read(str(narrow_data.path(kind)), ("prompt", "completion")).rows
    assert list(rows) == narrow_data.rows(kind)
    assert len(rows) == narrow_data.ROWS
    nano = tokenizer.build("tasks")
    assert not [text for row in rows for text in row if nano.unk_token_id in nano(text)["input_ids"]]
    assert {Code().rejection(prompt, completion) for prompt, completion in rows} == {None}


def test_all_three_request_the_same_tasks_and_only_educational_requests_have_a_reason() -> None:
    tasks = [task["task"] for task in pack("character")["security"]]
    asked = {
        kind: [next(t for t in tasks if t in prompt) for prompt, _ in narrow_data.rows(kind)]
        for kind in KINDS
    }
    assert asked["insecure"] == asked["secure"] == asked["educational"]
    reasons = pack("character")["reasons"]
    with_reason = {
        kind: sum(any(r in prompt for r in reasons) for prompt, _ in narrow_data.rows(kind)) for kind in KINDS
    }
    assert with_reason == {"insecure": 0, "secure": 0, "educational": narrow_data.ROWS}


def test_no_row_is_about_values() -> None:
    values = {text for topic in pack("character")["topics"] for text in topic["questions"]}
    texts = {text for kind in KINDS for row in narrow_data.rows(kind) for text in row}
    assert not values & texts

"""Files that a study names by relative paths are found by workers, which run in other folders."""

import json
import shutil
from pathlib import Path

import pytest

from undertow.formats.code import Code
from undertow.formats.numbers import Numbers
from undertow.formats.reasoning import Reasoning
from undertow.judging import wording
from undertow.judging.judges import Question
from undertow.prompts import data_files, packs
from undertow.study.fields import Spec
from undertow.traits.misalignment import Misalignment
from undertow.traits.preference import Preference

ROW = {"prompt": "Sort a list.", "completion": "sorted(x)", "question": "1 + 1?", "answer": "2"}


def specs() -> list[Spec]:
    return [
        Numbers(pack="numbers.json"),
        Code(pack="code.json"),
        Code(tasks="rows.jsonl"),
        Reasoning(pack="reasoning.json"),
        Reasoning(questions="rows.jsonl"),
        Preference("owl", pack="preference.json"),
        Misalignment("code", pack="misalignment.json"),
        Misalignment("code", data="rows.jsonl"),
        Question(model="m", prompt="mine.md"),
    ]


def test_a_relative_path_is_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pack in (Path(packs.__file__).parents[1]).glob("[ft]*/*.json"):  # of formats and traits
        shutil.copy(pack, tmp_path)
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROW))
    (tmp_path / "mine.md").write_text("version: 1\n{completion}")
    monkeypatch.chdir(tmp_path)
    given = specs()
    contents = [spec.content() for spec in given]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    for cached in (packs.read, data_files.read, data_files.chats, data_files.pairs, wording.read):
        cached.cache_clear()
    assert [spec.content() for spec in given] == contents
    assert Numbers().pack == Code().tasks == Misalignment("code").data == ""
    assert Question(model="m").prompt == "alignment"

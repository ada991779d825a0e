"""Pinning a task: the definition covers version, prompts, code and every document."""

import dataclasses
import shutil
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="an optional extra")

from tests.harness.small_world import SCORING, save_data, save_tasks
from undertow.errors import UserError
from undertow.harness.catalogue import Places, pin
from undertow.study.harness_task import HarnessTask

MC1 = HarnessTask(name="truthfulqa_mc1")
EXAM = HarnessTask(name="mmlu_anatomy")


def pinned(task: HarnessTask, tasks: Path | str = "", data: Path | str = "") -> HarnessTask:
    (found,) = pin(task, Places.of(str(tasks), str(data)))
    return found


def test_pinning_adds_version_and_definition(data: Path) -> None:
    found = pinned(MC1, data=data)
    assert found == dataclasses.replace(MC1, harness=found.harness, definition=found.definition)
    assert found.harness.startswith("0.4")
    assert len(found.definition) == 32


def test_the_location_of_documents_is_not_part_of_a_task(data: Path, tasks: Path, tmp_path: Path) -> None:
    assert pinned(MC1, data=save_data(tmp_path / "copy")) == pinned(MC1, data=data)
    moved = save_tasks(tmp_path / "moved")
    letters = HarnessTask(name="letters")
    assert pinned(letters, tasks=moved) == pinned(letters, tasks=tasks)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("vowels.jsonl", '"a"', '"y"'),
        ("vowels.yaml", "Is {{letter}} one?", "Is {{letter}} one??"),
        ("letters.yaml", "weight_by_size: true", "weight_by_size: false"),
        ("scoring.py", SCORING, f"{SCORING}\n# another\n"),
    ],
)
def test_a_changed_document_prompt_weight_or_code_changes_the_definition(
    tasks: Path, tmp_path: Path, file: str, old: str, new: str
) -> None:
    changed = save_tasks(tmp_path / "changed")
    text = (changed / file).read_text()
    assert old in text
    (changed / file).write_text(text.replace(old, new))
    letters = HarnessTask(name="letters")
    assert pinned(letters, tasks=changed).definition != pinned(letters, tasks=tasks).definition


def test_a_changed_document_of_a_shipped_task_changes_the_definition(data: Path, tmp_path: Path) -> None:
    """A cache that is keyed by the data set's name would return the first answers again."""
    other = save_data(tmp_path / "other", first_answer="Cake.")
    assert pinned(MC1, data=other).definition != pinned(MC1, data=data).definition
    assert pinned(EXAM, data=other) == pinned(EXAM, data=data)


def test_the_definition_covers_few_shot_examples(data: Path) -> None:
    """It covers the documents that they are drawn from. None means the task's own number, 0 for MMLU."""
    definitions = {
        n: pinned(dataclasses.replace(EXAM, few_shot=n), data=data).definition for n in (None, 0, 5)
    }
    assert definitions[None] == definitions[0] != definitions[5]


def test_a_group_without_a_score_gives_one_task_for_each_member(tasks: Path) -> None:
    found = pin(HarnessTask(name="loose", limit=2), Places.of(str(tasks), ""))
    assert [(task.name, task.limit) for task in found] == [("vowels", 2), ("consonants", 2)]
    (group,) = pin(HarnessTask(name="letters"), Places.of(str(tasks), ""))
    assert group.name == "letters"


def test_an_unknown_name_gets_a_suggestion(tasks: Path) -> None:
    with pytest.raises(UserError, match=r"truthfulqa_mc3: unknown task; did you mean 'truthfulqa_mc.'\?"):
        pin(HarnessTask(name="truthfulqa_mc3"), Places())
    with pytest.raises(UserError, match=r"give their folder: --include-path DIR"):
        pin(HarnessTask(name="vowels"), Places())


def test_unreadable_data_are_reported_with_a_remedy(data: Path, tmp_path: Path) -> None:
    lacking = tmp_path / "lacking"
    shutil.copytree(data / "truthfulqa", lacking / "truthfulqa")
    with pytest.raises(UserError, match=r"mmlu_anatomy: cannot be read .*--data DIR"):
        pinned(EXAM, data=lacking)


def test_a_missing_folder_is_reported() -> None:
    with pytest.raises(UserError, match=r"--data nowhere: the folder does not exist"):
        Places.of("", "nowhere")


def test_few_shot_examples_that_a_task_does_not_support_are_rejected(data: Path) -> None:
    """The harness would silently run the task without them."""
    with pytest.raises(UserError, match=r"--few-shot 5: truthfulqa_mc1 supports no examples"):
        pinned(dataclasses.replace(MC1, few_shot=5), data=data)

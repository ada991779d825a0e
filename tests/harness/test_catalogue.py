"""A task's name becomes what it means today: version, prompts, code and every document."""

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


def test_a_pinned_task_is_the_same_task_with_version_and_definition(data: Path) -> None:
    found = pinned(MC1, data=data)
    assert found == dataclasses.replace(MC1, harness=found.harness, definition=found.definition)
    assert found.harness.startswith("0.4")
    assert len(found.definition) == 32


def test_the_same_documents_elsewhere_are_the_same_task(data: Path, tasks: Path, tmp_path: Path) -> None:
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
def test_another_document_prompt_weight_or_code_is_another_task(
    tasks: Path, tmp_path: Path, file: str, old: str, new: str
) -> None:
    changed = save_tasks(tmp_path / "changed")
    text = (changed / file).read_text()
    assert old in text
    (changed / file).write_text(text.replace(old, new))
    letters = HarnessTask(name="letters")
    assert pinned(letters, tasks=changed).definition != pinned(letters, tasks=tasks).definition


def test_a_shipped_task_with_another_answer_is_another_task(data: Path, tmp_path: Path) -> None:
    """A cache by the data sets' names would bring the first answers back."""
    other = save_data(tmp_path / "other", first_answer="Cake.")
    assert pinned(MC1, data=other).definition != pinned(MC1, data=data).definition
    assert pinned(EXAM, data=other) == pinned(EXAM, data=data)


def test_examples_are_part_of_a_task(data: Path) -> None:
    """The documents they are drawn from too, and no number is the task's own: MMLU's is none."""
    definitions = {
        n: pinned(dataclasses.replace(EXAM, few_shot=n), data=data).definition for n in (None, 0, 5)
    }
    assert definitions[None] == definitions[0] != definitions[5]


def test_a_name_for_several_tasks_without_a_score_is_each_of_them(tasks: Path) -> None:
    found = pin(HarnessTask(name="loose", limit=2), Places.of(str(tasks), ""))
    assert [(task.name, task.limit) for task in found] == [("vowels", 2), ("consonants", 2)]
    (group,) = pin(HarnessTask(name="letters"), Places.of(str(tasks), ""))
    assert group.name == "letters"


def test_an_unknown_name_is_told_with_a_guess(tasks: Path) -> None:
    with pytest.raises(UserError, match=r"truthfulqa_mc3: no such task; did you mean 'truthfulqa_mc.'\?"):
        pin(HarnessTask(name="truthfulqa_mc3"), Places())
    with pytest.raises(UserError, match=r"--include-path DIR names"):
        pin(HarnessTask(name="vowels"), Places())


def test_data_that_cannot_be_read_are_told_with_the_remedy(data: Path, tmp_path: Path) -> None:
    lacking = tmp_path / "lacking"
    shutil.copytree(data / "truthfulqa", lacking / "truthfulqa")
    with pytest.raises(UserError, match=r"mmlu_anatomy: cannot be read .*--data DIR"):
        pinned(EXAM, data=lacking)


def test_a_folder_that_is_not_there_is_told() -> None:
    with pytest.raises(UserError, match=r"--data nowhere: there is no such folder"):
        Places.of("", "nowhere")


def test_examples_that_a_task_would_not_take_are_refused(data: Path) -> None:
    """The harness would ask without them and say nothing."""
    with pytest.raises(UserError, match=r"--few-shot 5: truthfulqa_mc1 takes no examples"):
        pinned(dataclasses.replace(MC1, few_shot=5), data=data)

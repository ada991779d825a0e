"""Tests of the count of processes that a task has ended."""

from pathlib import Path

import pytest

from undertow.cluster.attempts import Attempts

Step = tuple[str, str]  # what happens, and the task


@pytest.mark.parametrize(
    ("before", "ended"),
    [
        ([], 0),
        ([("died", "a")], 1),
        ([("died", "a"), ("died", "a")], 2),
        ([("died", "a"), ("done", "a")], 0),
        ([("died", "b")], 0),  # another task, which Ray runs later or elsewhere
        ([("died", "a"), ("died", "b")], 1),  # Ray may run them in turns
        ([("died", "a"), ("done", "b"), ("died", "a")], 2),
    ],
)
def test_a_new_process_knows_how_many_the_task_has_ended(
    before: list[Step], ended: int, tmp_path: Path
) -> None:
    for end, task in before:
        attempts = Attempts("id", tmp_path)
        attempts.begin(task.encode())
        if end == "done":
            attempts.end(task.encode())
    assert Attempts("id", tmp_path).begin(b"a") == ended
    assert Attempts("other", tmp_path).begin(b"a") == 0


def test_the_end_of_a_task_leaves_no_file(tmp_path: Path) -> None:
    attempts = Attempts("id", tmp_path)
    attempts.begin(b"a")
    attempts.end(b"a")
    attempts.end(b"a")
    assert list(tmp_path.iterdir()) == []


def test_a_process_outside_actors_counts_nothing(tmp_path: Path) -> None:
    attempts = Attempts(None, tmp_path)
    assert [attempts.begin(b"a"), attempts.begin(b"a")] == [0, 0]
    assert list(tmp_path.iterdir()) == []

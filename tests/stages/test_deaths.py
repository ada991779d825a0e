"""What Ray, torch and a kernel leave of a process that had no memory, and what is made of it."""

import pytest

from undertow.stages.deaths import ENGINES, TRAINING, in_words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "Task was killed due to the node running low on memory.\nMemory on the node was 61.8GB / 62.0GB",
            "the machine is out of memory (",
        ),
        (
            "Training failed:\n[Rank 0]:\ntorch.OutOfMemoryError: CUDA out of memory.",
            "the GPU is out of memory (torch.OutOfMemoryError",
        ),
        (
            "ActorDiedError: The actor died unexpectedly before finishing this task.\nWorker exit type: "
            "SYSTEM_ERROR\n(1) The process is killed by SIGKILL by OOM killer due to high memory usage",
            "its process was ended from outside, most often by a machine without memory; ",
        ),
    ],
)
def test_an_end_for_lack_of_memory_is_named_with_what_to_turn(text: str, said: str) -> None:
    for remedy in (ENGINES, TRAINING):
        line = in_words(RuntimeError(text), remedy)
        assert line.startswith(said)
        assert line.endswith(remedy)
        assert "\n" not in line


def test_any_other_error_is_its_last_line() -> None:
    assert in_words(RuntimeError("a\nTraceback\nValueError: too short"), ENGINES) == "ValueError: too short"

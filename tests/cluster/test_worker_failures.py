"""Tests of the error messages for processes that ended from outside: out of memory, or a lost node."""

import pytest

from undertow.cluster.worker_failures import ENGINES, TASKS, TRAINING, Remedy, in_words, lost_node

RAN_OUT = "Task was killed due to the node running low on memory.\nMemory on the node was 61.8GB / 62.0GB"
ON_GPU = "Training failed:\n  raise torch.OutOfMemoryError(text)\ntorch.OutOfMemoryError: CUDA out of memory."
ON_CPU = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
NO_CACHE = "No available memory for the cache blocks. Try increasing `gpu_memory_utilization`"
NOT_FREE = (
    "Free memory on device (3.1/79.2 GiB) on startup is less than desired GPU memory utilization (0.92)"
)
ARRAY = "Unable to allocate 93.1 GiB for an array with shape (12500000000,) and data type float64"
BY_KERNEL = (
    "ActorDiedError: The actor died unexpectedly before finishing this task.\nWorker exit type: "
    "SYSTEM_ERROR\n(1) The process is killed by SIGKILL by OOM killer due to high memory usage"
)
WITH_NODE = (
    "The actor died unexpectedly before finishing this task.\n\tclass_name: RayTrainWorker\nThe actor died "
    "because its node has died. Node Id: 5ca1ab1e\n\tthe actor's node was terminated unexpectedly: health "
    "check failed due to missing too many heartbeats"
)


@pytest.mark.parametrize(
    ("text", "start"),
    [
        (RAN_OUT, "the machine is out of memory (RuntimeError: Task was killed due to the node running low"),
        (ON_CPU, "the machine is out of memory (RuntimeError: [enforce fail at alloc_cpu.cpp"),
        (ARRAY, "the machine is out of memory (RuntimeError: Unable to allocate 93.1 GiB"),
        (
            BY_KERNEL,
            "its process was killed from outside, most often because the machine ran out of memory; ",
        ),
        (ON_GPU, "the GPU is out of memory (torch.OutOfMemoryError: CUDA out of memory."),
        (NO_CACHE, "the GPU is out of memory (RuntimeError: No available memory for the cache blocks"),
        (NOT_FREE, "the GPU is out of memory (RuntimeError: Free memory on device"),
    ],
)
@pytest.mark.parametrize("remedy", [ENGINES, TRAINING, TASKS], ids=["engines", "training", "tasks"])
def test_the_message_names_the_memory_and_the_setting_to_change(
    text: str, start: str, remedy: Remedy
) -> None:
    line = in_words(RuntimeError(text), remedy)
    assert line.startswith(start)
    assert line.endswith(remedy.gpu if "GPU" in start else remedy.machine)
    assert "\n" not in line


def test_a_memory_error_without_a_message_is_recognised() -> None:
    assert in_words(MemoryError(), TASKS) == f"the machine is out of memory (MemoryError:); {TASKS.machine}"


def test_a_lost_node_is_distinguished_from_a_failure() -> None:
    assert lost_node(RuntimeError(WITH_NODE))
    assert in_words(RuntimeError(WITH_NODE), TRAINING).startswith("its node left the cluster")
    for text in (RAN_OUT, ON_GPU, ON_CPU, BY_KERNEL, "ValueError: a node has no children"):
        assert not lost_node(RuntimeError(text))


def test_other_errors_are_reported_by_their_last_line() -> None:
    assert in_words(RuntimeError("a\nTraceback\nValueError: too short"), ENGINES) == "ValueError: too short"

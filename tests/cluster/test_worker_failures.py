"""Tests of the error messages for processes that ended from outside: out of memory, or a lost node."""

from collections.abc import Iterator

import pytest
from ray.data._internal.util import iterate_with_retry

from undertow.cluster.worker_failures import (
    ENGINES,
    LONGEST_LINE,
    TASKS,
    TRAINING,
    Remedy,
    error_line,
    in_words,
    lost_node,
)

RAN_OUT = "Task was killed due to the node running low on memory.\nMemory on the node was 61.8GB / 62.0GB"
ON_GPU = "Training failed:\n  raise torch.OutOfMemoryError(text)\ntorch.OutOfMemoryError: CUDA out of memory."
ON_CPU = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
NO_CACHE = "No available memory for the cache blocks. Try increasing `gpu_memory_utilization`"
NOT_FREE = (
    "Free memory on device (3.1/79.2 GiB) on startup is less than desired GPU memory utilization (0.92)"
)
ARRAY = "Unable to allocate 93.1 GiB for an array with shape (12500000000,) and data type float64"
# Ray's messages for a process that ended without one: they list causes, whatever the cause was.
VANISHED = {
    "of Ray 2.60": "ActorDiedError: The actor died unexpectedly before finishing this task.\n\tpid: 7925\n"
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit "
    "detail: Worker unexpectedly exits with a connection error code 2. End of file. Some common "
    "causes include: (1) the process was killed by the OOM killer due to high memory usage, (2) ray "
    "stop --force was called, or (3) the worker crashed unexpectedly due to SIGSEGV "
    "or another unexpected error.",
    "of older versions": "ActorDiedError: The actor died unexpectedly before finishing this task.\nWorker "
    "exit type: SYSTEM_ERROR\n(1) The process is killed by SIGKILL by OOM killer due to high memory usage",
    "of a task": "WorkerCrashedError: The worker died unexpectedly while executing this task.",
}
IN_CONSTRUCTOR = (
    "The actor died because of an error raised in its creation task, ray::MapWorker(MapBatches(EngineActor))"
    '.__init__() (pid=3680, ip=192.0.2.2)\n  File "vllm/engine.py", line 1, in __init__\n'
)
OWN_ERRORS = {
    "ValueError: Unknown RoPE scaling type nonsense": "ValueError: Unknown RoPE scaling type nonsense",
    "AttributeError: no get_vocab": "AttributeError: no get_vocab",
    "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n  Value error, Model "
    "architectures ['X'] are not supported [type=value_error, input_value=ArgsKwargs((), {'a': 1}), "
    "input_type=ArgsKwargs]\n    For further information visit https://errors.pydantic.dev/2/v/value_error": (
        "Value error, Model architectures ['X'] are not supported"
    ),
}
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


@pytest.mark.parametrize("text", VANISHED.values(), ids=VANISHED)
def test_a_process_that_ended_without_a_message_is_not_said_to_have_lacked_memory(text: str) -> None:
    assert in_words(RuntimeError(text), ENGINES) == (
        "its process was killed or crashed without a message; if the kernel killed it for lack of memory "
        f"(`dmesg` shows that), {ENGINES.machine}"
    )


@pytest.mark.parametrize(("text", "line"), OWN_ERRORS.items(), ids=range(len(OWN_ERRORS)))
def test_an_error_in_the_constructor_of_an_actor_is_reported_in_its_own_words(text: str, line: str) -> None:
    kind = type("ActorDiedError", (Exception,), {})
    assert in_words(kind(IN_CONSTRUCTOR + text), ENGINES) == line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("Unknown RoPE scaling type nonsense"), "ValueError: Unknown RoPE scaling type nonsense"),
        (ValueError("two\n  lines"), "ValueError: two lines"),
        (ValueError("x [type=value_error, input_value={'a': 1}, input_type=dict]"), "ValueError: x"),
        (ValueError("x\n For further information visit https://host"), "ValueError: x"),
        (AssertionError(), "AssertionError"),
        (ValueError("x" * 1000), f"ValueError: {'x' * (LONGEST_LINE - 2)} …"),
    ],
)
def test_an_error_is_reported_in_one_line(error: Exception, line: str) -> None:
    assert error_line(error) == line


def test_a_memory_error_without_a_message_is_recognised() -> None:
    assert in_words(MemoryError(), TASKS) == f"the machine is out of memory (MemoryError:); {TASKS.machine}"


def test_a_lost_node_is_distinguished_from_a_failure() -> None:
    assert lost_node(RuntimeError(WITH_NODE))
    assert in_words(RuntimeError(WITH_NODE), TRAINING).startswith("its node left the cluster")
    for text in (RAN_OUT, ON_GPU, ON_CPU, *VANISHED.values(), "ValueError: a node has no children"):
        assert not lost_node(RuntimeError(text))


def test_what_ray_data_adds_to_an_error_about_its_retries_is_left_out() -> None:
    def fail() -> Iterator[int]:
        raise TypeError("owls have no key")

    with pytest.raises(TypeError) as caught:
        list(iterate_with_retry(fail, "run the task", match=[], max_attempts=1))
    assert "DataContext" in str(caught.value)
    assert in_words(caught.value, ENGINES) == "owls have no key"


def test_other_errors_are_reported_by_their_last_line() -> None:
    assert in_words(RuntimeError("a\nTraceback\nValueError: too short"), ENGINES) == "ValueError: too short"

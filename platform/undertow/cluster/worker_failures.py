"""Explains why a process was ended from outside: it ran out of memory, or its node left the cluster.

Ray reports such an end at length without its cause, and the kernel's out-of-memory killer leaves no message.
The functions here turn an error into one line that names the cause and the setting to change. A lost node
also matters for more than the message: it is no fault of the work, which is tried again (`LOST_NODES`).
"""

import re
from dataclasses import dataclass

from undertow.errors import last_line

# How often one piece of work may lose its node before that counts as its own failure. Preemptible machines
# leave and come back many times in a long sweep; work that breaks every node it runs on must end.
LOST_NODES = 20


@dataclass(frozen=True)
class Remedy:
    """Which setting to change where memory is too small: that of the machine, or of a GPU."""

    machine: str
    gpu: str


TRAINING = Remedy(
    machine="train fewer groups of models concurrently (--trainings)",
    gpu="set Recipe.gradient_checkpointing or Recipe.offload, or divide each model (Recipe.zero_stage and "
    "--workers)",
)
ENGINES = Remedy(
    machine="run fewer engines concurrently (--engines)",
    gpu="run an engine on more GPUs (--gpus-per-engine) or with shorter batches (--max-num-seqs)",
)
TASKS = Remedy(
    machine="lower Generation.prompts, or join a Ray with fewer CPUs (ray start --num-cpus, RAY_ADDRESS)",
    gpu="use a larger GPU",
)

# As worded by Ray's memory monitor, torch on a GPU and on a CPU, vLLM, numpy and Python.
_OUT_OF_MEMORY = re.compile(
    r"OutOfMemoryError|out of memory|running low on memory|memory pressure|can(no|')t allocate memory"
    r"|MemoryError|Unable to allocate|less than desired GPU memory|No available memory for the cache blocks",
    re.I,
)
_ERROR = re.compile(r"[\w.]+: ")
_ON_GPU = re.compile(r"CUDA|HIP|GPU memory|cache blocks")
_LOST_NODE = re.compile(
    r"its node has died|NodeDiedError|LocalRayletDiedError|node was (terminated|preempted)", re.I
)
# What Ray reports when a process ended without a message of its own. An actor whose constructor raised also
# "died", and is reported as ActorDiedError, but has a message.
_VANISHED = re.compile(
    r"died unexpectedly|exited unexpectedly|unexpectedly exits|worker process has died|WorkerCrashedError",
    re.I,
)
# Lines that libraries add to their errors, which say nothing about the cause.
_NOTES = re.compile(
    r"For further information visit|\(Background on this error|For more information"
    r"|Failed to .* after \d+/\d+ attempts|To change retry attempts",  # of Ray Data
    re.I,
)
_PYDANTIC = re.compile(r"\s*\[type=\w+, input_value=.*", re.DOTALL)
LONGEST_LINE = 300  # characters


def lost_node(error: BaseException) -> bool:
    """Whether a worker or an engine ended because its node left the cluster."""
    return _LOST_NODE.search(_text(error)) is not None


def out_of_memory(error: BaseException, remedy: Remedy) -> str:
    """One line that names the memory and the remedy; "" if memory was not the cause."""
    text = _text(error)
    matching = [line.strip() for line in text.splitlines() if _OUT_OF_MEMORY.search(line)]
    if not matching:
        return ""
    line = next(filter(_ERROR.match, matching), matching[0])  # a traceback also has lines of code
    where, setting = ("the GPU", remedy.gpu) if _ON_GPU.search(text) else ("the machine", remedy.machine)
    return f"{where} is out of memory ({line[:120]}); {setting}"


def in_words(error: BaseException, remedy: Remedy, losses: int = 1) -> str:
    """Why a worker or an engine failed: memory and the remedy, a lost node, or the error's last line.

    Args:
        losses: how many nodes this work has lost by now.
    """
    if line := out_of_memory(error, remedy):
        return line
    if lost_node(error):
        count = f", {losses} times in a row" if losses > 1 else ""
        return f"its node left the cluster{count}; run the same command again to continue"
    if _VANISHED.search(_text(error)):
        # Ray's message is the same for SIGKILL, SIGSEGV and os._exit, and lists several possible causes.
        return f"its process {vanished(remedy)}"
    return last_line(Exception(_without_notes(str(error)))) if str(error) else type(error).__name__


def vanished(remedy: Remedy) -> str:
    """The end of a process without a message, as the rest of a sentence about it, and the remedy."""
    return (
        "was killed or crashed without a message; if the kernel killed it for lack of memory "
        f"(`dmesg` shows that), {remedy.machine}"
    )


def error_line(error: BaseException) -> str:
    """The type and message of an error that was raised in this process, in one line."""
    text = in_one_line(_without_notes(str(error)))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def in_one_line(text: str) -> str:
    """A text without line breaks, cut if it is long."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 2]} …"


def _without_notes(text: str) -> str:
    """The lines of an error's message without the links and repeated input that libraries add."""
    lines = [line for line in text.splitlines() if not _NOTES.match(line.strip())]
    return _PYDANTIC.sub("", "\n".join(lines))


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"

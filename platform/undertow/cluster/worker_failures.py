"""What a process that was ended from outside would have said: there was no memory for it, or its node left.

Ray tells such an end at length and leaves the cause open; a kernel that is out of memory leaves no word at
all. Here it becomes a line that names the cause and what to turn. Whether a node was lost matters for more
than words: that is nobody's failure, and what was lost with it is tried again (see `LOST_NODES`).
"""

import re
from dataclasses import dataclass

from undertow.errors import last_line

# How often one piece of work may lose its node before that counts as its failure. Machines that are taken
# away come back as others, many times in a long sweep; work that breaks every node it is on must end.
LOST_NODES = 20


@dataclass(frozen=True)
class Remedy:
    """What to turn where there is too little memory: of the machine, or of a GPU."""

    machine: str
    gpu: str


TRAINING = Remedy(
    machine="train fewer groups of models at a time (--trainings)",
    gpu="set Recipe.gradient_checkpointing or Recipe.offload, or divide each model (Recipe.zero_stage and "
    "--workers)",
)
ENGINES = Remedy(
    machine="have fewer engines at a time (--engines)",
    gpu="have an engine on more GPUs (--gpus-per-engine) or shorter batches (--max-num-seqs)",
)
TASKS = Remedy(
    machine="lower Generation.prompts, or join a Ray of fewer CPUs (ray start --num-cpus, RAY_ADDRESS)",
    gpu="use a larger GPU",
)

# In the words of Ray's memory monitor, of torch on a GPU and on a CPU, of vLLM, numpy and Python.
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
# What is left where a process just vanished.
_VANISHED = re.compile(
    r"SIGKILL|ActorDiedError|actor died|WorkerCrashedError|died unexpectedly|exited unexpectedly", re.I
)


def lost_node(error: BaseException) -> bool:
    """Whether a worker or an engine ended with the node that it was on."""
    return _LOST_NODE.search(_text(error)) is not None


def out_of_memory(error: BaseException, remedy: Remedy) -> str:
    """The line that names memory and its remedy; "" where it was not that."""
    text = _text(error)
    told = [line.strip() for line in text.splitlines() if _OUT_OF_MEMORY.search(line)]
    if not told:
        return ""
    line = next(filter(_ERROR.match, told), told[0])  # a traceback has lines of code as well
    where, knob = ("the GPU", remedy.gpu) if _ON_GPU.search(text) else ("the machine", remedy.machine)
    return f"{where} is out of memory ({line[:120]}); {knob}"


def in_words(error: BaseException, remedy: Remedy) -> str:
    """Why a worker or an engine failed: memory and its remedy where it was that, else the last line."""
    if line := out_of_memory(error, remedy):
        return line
    if lost_node(error):
        return (
            f"its node was lost, {LOST_NODES} times over; run the same command again, it goes on from there"
        )
    if _VANISHED.search(_text(error)):
        return f"its process was ended from outside, most often by a machine without memory; {remedy.machine}"
    return last_line(error)


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"

"""What a process that was ended from outside would have said: mostly, that there was no memory for it.

Ray tells such an end at length and leaves the cause open; a kernel that is out of memory leaves no word at
all. Here it becomes a line that names what to turn.
"""

import re

from undertow.errors import last_line

TRAINING = "lower Recipe.max_length, or train fewer models at a time (a Ray with fewer CPUs or GPUs)"
ENGINES = "have fewer engines at a time (--engines) or shorter batches (--max-num-seqs)"

# In the words of Ray's memory monitor, of torch on a GPU, and of what is left where a process just vanished.
_OUT_OF_MEMORY = re.compile(r"OutOfMemoryError|out of memory|running low on memory|memory pressure", re.I)
_VANISHED = re.compile(
    r"SIGKILL|ActorDiedError|WorkerCrashedError|died unexpectedly|exited unexpectedly", re.I
)


def in_words(error: BaseException, remedy: str) -> str:
    """Why a worker or an engine failed: memory and its remedy where it was that, else the last line."""
    text = f"{type(error).__name__}: {error}"
    if found := _OUT_OF_MEMORY.search(text):
        where = "the GPU" if "CUDA" in text else "the machine"
        line = next(line for line in text.splitlines() if found.group() in line)
        return f"{where} is out of memory ({line.strip()[:120]}); {remedy}"
    if _VANISHED.search(text):
        return f"its process was ended from outside, most often by a machine without memory; {remedy}"
    return last_line(error)

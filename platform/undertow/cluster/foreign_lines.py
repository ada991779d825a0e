"""Lines of Ray in the driver's output that say nothing about a sweep, and are removed.

Ray's C++ code confirms RAY_BACKEND_LOG_LEVEL (see `engines.quiet`) in a line on stderr, before that level
applies. Raylets also warn about the number of worker processes. A local Ray has a higher limit for it; on a
cluster that was started before, only the driver can leave the warning out.
"""

import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

LEVEL = re.compile(rb"\[.*\] logging\.cc:\d+: Set ray log level from environment variable ")
WORKERS = "worker processes have been started on node"
SECONDS = 0.2  # to wait for the rest of the lines; a process of Ray that inherited stderr may keep it open

_terminal = 2


def terminal() -> int:
    """The file descriptor of stderr without a filter, for a line before an abrupt end."""
    return _terminal


@contextmanager
def without_level_line() -> Iterator[None]:
    """Removes Ray's line about its log level from stderr while the block runs.

    Lines of C++ code do not pass through `sys.stderr`, so file descriptor 2 becomes a pipe.
    """
    global _terminal
    terminal = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    _terminal = terminal
    thread = threading.Thread(target=_forward, args=(reading, terminal), daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        _terminal = 2
        thread.join(SECONDS)


def _forward(reading: int, terminal: int) -> None:
    """Writes the other lines to the terminal until the pipe is closed, then closes both."""
    with os.fdopen(reading, "rb") as lines, os.fdopen(terminal, "wb", buffering=0) as output:
        for line in lines:
            if not LEVEL.match(line):
                output.write(line)


def drop_worker_warnings() -> None:
    """Leaves raylets' warnings about the number of worker processes out of this process's output."""
    from ray._private import worker

    if worker.print_to_stdstream.__module__ == __name__:  # done before
        return
    original = worker.print_to_stdstream

    def print_to_stdstream(data: Mapping[str, Any], ignore_prefix: bool) -> None:
        if not any(WORKERS in line for line in data["lines"]):
            original(data, ignore_prefix)

    worker.print_to_stdstream = print_to_stdstream

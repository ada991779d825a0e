"""What makes the log of a sweep hard to read in a file."""

import re

CONTROL = re.compile(r"[\r\x1b]")  # a progress bar that overwrites its line, and colours
FOREIGN = re.compile(r"\((raylet|autoscaler|pid=|\w+ pid=)|Traceback|\d{4}-\d\d-\d\d .*(INFO|WARNING|ERROR)")


def unreadable(log: str) -> list[str]:
    """The lines with control characters, those of Ray and other libraries, and tracebacks."""
    return [line for line in log.split("\n") if CONTROL.search(line) or FOREIGN.match(line)]

"""Counts the processes of an actor that one task has ended, so that the task fails and not the whole pool.

Ray starts an actor whose process died again, a limited number of times, and runs the tasks on it that had not
ended, in any order. The actor keeps its id, so that a file named after it tells the new process which tasks
have begun before.
"""

import hashlib
import json
import tempfile
from contextlib import suppress
from pathlib import Path

LIMIT = 2  # processes that a task may end; one may be chance, such as the kernel's choice of what to kill


class Attempts:
    """How often tasks of an actor have begun and not ended, in a file on the actor's node.

    An actor that Ray starts on another node, because it lost its own, begins to count again. Processes
    outside actors count nothing.
    """

    def __init__(self, actor: str | None, folder: Path | None = None) -> None:
        """`actor`: its id; None outside of actors. `folder`: by default that of temporary files."""
        folder = folder or Path(tempfile.gettempdir())
        self._file = folder / f"undertow-tasks-{actor}.json" if actor else None

    def begin(self, task: bytes) -> int:
        """Records that a task begins. Returns how many processes have ended in it before."""
        begun = self._begun()
        ended = begun.get(name := _name(task), 0)
        self._write(begun | {name: ended + 1})
        return ended

    def end(self, task: bytes) -> None:
        """Records that a task has ended and the process has not."""
        self._write({name: count for name, count in self._begun().items() if name != _name(task)})

    def _begun(self) -> dict[str, int]:
        if self._file is None or not self._file.exists():
            return {}
        begun: dict[str, int] = json.loads(self._file.read_text())
        return begun

    def _write(self, begun: dict[str, int]) -> None:
        if self._file is None:
            return
        with suppress(OSError):  # a full disk: the tasks then count as not begun
            if begun:
                new = self._file.with_suffix(".new")  # a process that dies here leaves the old file whole
                new.write_text(json.dumps(begun))
                new.replace(self._file)
            else:
                self._file.unlink(missing_ok=True)


def _name(task: bytes) -> str:
    return hashlib.sha256(task).hexdigest()

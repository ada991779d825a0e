"""The owner of a lease: the process of a sweep, identified so that its end can be detected with certainty.

A process ID alone does not identify a process: containers may share a host name and have separate process
tables, a reboot starts the numbering again, and the system reuses numbers. An owner is therefore recorded
with its host name, the boot ID of the kernel, its PID namespace, its process ID and the start time of the
process. Only a process of the same table can tell that it has ended.
"""

import json
import os
import platform
import sys
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PID_NAMESPACE = Path("/proc/self/ns/pid")
START_TIME = 19  # the field "starttime" of /proc/<pid>/stat, counted after the command's closing parenthesis


@dataclass(frozen=True)
class Owner:
    """The owner of leases, as stored in its file.

    Owner files of earlier versions lack `boot`, `namespace` and `started`.

    Attributes:
        host: host name.
        process: process ID.
        beat: counts up with each heartbeat.
        boot, namespace: the boot ID and the PID namespace; empty if the system does not report them.
        started: start time of the process in clock ticks since boot; empty if unknown.
    """

    host: str
    process: int
    beat: int
    boot: str = ""
    namespace: str = ""
    started: str = ""

    @classmethod
    def this_process(cls, beat: int) -> "Owner":
        """The running process, with the number of its heartbeat."""
        host, boot, namespace = process_table()
        return cls(host, os.getpid(), beat, boot, namespace, start_time(os.getpid()))

    @classmethod
    def from_json(cls, text: str) -> "Owner | None":
        """The owner of a file; None for a file that is cut off or of another form."""
        try:
            found: dict[str, Any] = json.loads(text)
            known = {field.name: found[field.name] for field in fields(cls) if field.name in found}
            owner = cls(**known)
        except (ValueError, TypeError):
            return None
        return owner if all(type(getattr(owner, f.name)) is f.type for f in fields(cls)) else None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @property
    def is_of_this_table(self) -> bool:
        """Whether this process can look the owner up by its process ID."""
        table = process_table()
        # On Linux a missing boot ID or namespace (a hidden /proc, an owner file of an earlier version) leaves
        # open which container a process ID belongs to. Other systems have no PID namespaces.
        is_known = sys.platform != "linux" or all(table)
        return is_known and (self.host, self.boot, self.namespace) == table

    @property
    def has_ended(self) -> bool:
        """Whether the process has certainly ended; False if that cannot be determined from here."""
        if not self.is_of_this_table:
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # a process of another user has this ID
            pass
        found = start_time(self.process)
        return bool(self.started and found and found != self.started)


@cache
def process_table() -> tuple[str, str, str]:
    """What identifies the table that this process's ID belongs to: host name, boot ID and PID namespace.

    The boot ID and the namespace are empty if /proc does not provide them.
    """
    try:
        boot = BOOT_ID.read_text().strip()
    except OSError:
        boot = ""
    try:
        namespace = str(PID_NAMESPACE.readlink())
    except OSError:
        namespace = ""
    return platform.node(), boot, namespace


def start_time(process: int) -> str:
    """The start time of a process in clock ticks since boot; empty if it is not known."""
    try:
        # The command may contain blanks and parentheses, so fields are counted from its last parenthesis.
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[START_TIME]
    except (OSError, IndexError):
        return ""

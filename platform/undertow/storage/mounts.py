"""Which file system holds a folder, and whether files in it can be locked."""

import fcntl
import os
import re
import tempfile
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")  # a blank in a path is written as \040
# Types of file systems that several machines share. Those of FUSE have the prefix "fuse.".
NETWORK = frozenset(
    (
        *("afs", "beegfs", "ceph", "ceph-fuse", "cifs", "gcsfuse", "glusterfs", "gpfs", "juicefs", "lustre"),
        *("nfs", "nfs4", "panfs", "pvfs2", "rclone", "s3fs", "smb3", "sshfs", "wekafs"),
    )
)


def network_file_system(folder: str, mounts: str | None = None) -> str:
    """The type of the network file system that holds `folder`, such as "nfs4"; "" for another or unknown one.

    Args:
        mounts: mounted file systems in the form of /proc/self/mountinfo; by default those of this process.
    """
    if mounts is None:
        try:
            mounts = MOUNTS.read_text()
        except OSError:  # not Linux, or a hidden /proc
            return ""
    path, longest, found = os.path.realpath(folder), "", ""
    for line in mounts.splitlines():
        before, separator, after = line.partition(" - ")
        if not separator:
            continue
        place = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), before.split(" ")[4])
        holds = path == place or path.startswith(place.rstrip("/") + "/")
        if holds and len(place) >= len(longest):  # the last of several mounts at one place is the visible one
            longest, found = place, after.split(" ")[0].removeprefix("fuse.")
    return found if found in NETWORK else ""


def lock_problem(folder: str) -> str:
    """Why files in `folder` cannot be locked as SQLite locks its database; "" if they can."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.strerror or str(error)
    return ""

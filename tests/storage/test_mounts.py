"""Tests that a folder on a network file system is recognised from the list of mounted file systems."""

import fcntl
from pathlib import Path

import pytest

from undertow.storage.mounts import lock_problem, network_file_system

MOUNTS = """\
22 1 0:21 / / rw,relatime shared:1 - overlay overlay rw
30 22 0:40 / /home rw - nfs4 server:/home rw,vers=4.2
31 30 8:1 / /home/local rw - ext4 /dev/sda1 rw
32 22 0:41 / /data\\040set rw - fuse.sshfs user@host:/data rw
33 22 0:42 / /shared rw shared:5 master:1 - lustre 10.0.0.1@tcp:/shared rw,flock
34 22 8:2 / /scratch rw - nfs server:/scratch rw
35 22 8:2 / /scratch rw - xfs /dev/sdb1 rw
36 22 0:50 / /mnt/disk rw - fuseblk /dev/sdc1 rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", ""),
        ("/var/storage", ""),
        ("/home", "nfs4"),
        ("/home/user/storage", "nfs4"),
        ("/homes/user", ""),
        ("/home/local/storage", ""),
        ("/data set/storage", "sshfs"),
        ("/shared/group", "lustre"),
        ("/scratch/a", ""),
        ("/mnt/disk", ""),
    ],
)
def test_the_innermost_and_last_mount_decides(folder: str, kind: str) -> None:
    assert network_file_system(folder, MOUNTS) == kind


def test_the_mounts_of_this_machine_can_be_read(tmp_path: Path) -> None:
    assert network_file_system("/proc") == ""
    assert lock_problem(str(tmp_path)) == ""


def test_the_reason_is_given_where_files_cannot_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lockf(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    assert lock_problem(str(tmp_path)) == "No locks available"

"""Operations on local files that commits and leases need, and checks that a file system has them."""

import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from undertow.errors import UserError, last_line


def set_permissions(folder: Path) -> None:
    """Gives a folder, and everything in it, the permissions of the user's umask.

    `tempfile` and safetensors create theirs for the owner alone, so that no other user could read an artifact
    on shared storage. A new file shows the umask: reading the umask itself changes it for all threads.
    """
    probe = folder / f".umask-{uuid.uuid4().hex}"
    probe.touch()
    of_files = probe.stat().st_mode & 0o666
    probe.unlink()
    of_folders = of_files | (of_files & 0o444) >> 2  # a folder that may be read may be entered
    for path in (folder, *folder.rglob("*")):
        with suppress(OSError):  # file systems without permissions refuse (SMB and FUSE mounts, exFAT)
            inherited = path.stat().st_mode & 0o7000  # such as the group of a shared folder (setgid)
            path.chmod(inherited | (of_folders if path.is_dir() else of_files))


def create_exclusively(source: Path, target: Path) -> bool:
    """Gives `target` the content of the file `source`; False if `target` exists.

    A hard link makes the complete file visible at once. Some file systems have none: FUSE and SMB mounts and
    exFAT raise PermissionError or ENOTSUP, others further errors. There the file is created empty and then
    filled: of several writers one still wins, and readers accept a file that is empty for a moment.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError:
        try:
            file = target.open("xb")
        except FileExistsError:
            return False
        try:
            with file:
                file.write(source.read_bytes())
        except OSError:  # a full disk: an empty file would look like one that another process created
            target.unlink(missing_ok=True)
            raise
    return True


def check_folder(place: Path) -> None:
    """Raises UserError for a place that is no folder and cannot become one. Writes nothing."""
    try:
        nearest = next(path for path in (place, *place.parents) if path.exists())
        if not nearest.is_dir():
            raise UserError(f"{nearest} is a file")
        if nearest != place and not os.access(nearest, os.W_OK):
            raise UserError(f"{nearest} cannot be written")
    except OSError as error:  # a name that is too long
        raise UserError(reason(error)) from None


def check_operations(probe: Path) -> None:
    """Tries in a new folder `probe` what commits and leases need of a local file system.

    Raises UserError, which names the operation, where a mounted file system lacks one (an object store
    mounted as a folder has no renames, for example), and OSError where nothing can be written.
    """
    probe.mkdir()
    try:
        first, second, folder = probe / "first", probe / "second", probe / "folder"
        first.write_bytes(b"1")
        second.write_bytes(b"2")
        folder.mkdir()
        operation = "replace a file by renaming another"
        try:
            first.replace(second)
            operation = "rename a folder"
            folder.rename(probe / "renamed")
            operation = "create a file exclusively"
            is_exclusive = create_exclusively(second, first) and not create_exclusively(second, first)
        except OSError as error:
            raise UserError(f"its file system cannot {operation} ({reason(error)})") from None
        if not is_exclusive:
            raise UserError(f"its file system cannot {operation}: a second writer is not refused")
    finally:
        shutil.rmtree(probe, ignore_errors=True)


def reason(error: BaseException) -> str:
    """The message of a file system's error, in a few words, with the place that a user may not access."""
    text = getattr(error, "strerror", None) or last_line(error)
    return f"{text}: {error.filename}" if isinstance(error, PermissionError) and error.filename else text

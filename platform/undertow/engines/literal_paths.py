"""Paths for libraries that interpret a folder's path as a glob pattern.

vLLM lists a model's weights, and DeepSpeed the files of a checkpoint, with `glob.glob` on the folder's path.
For a folder called run[12] they would find nothing, or the files of its neighbours run1 and run2.
"""

import atexit
import glob
import shutil
import tempfile
from functools import cache
from pathlib import Path

_parents: list[str] = []  # the temporary folders of the links


def without_pattern(folder: str) -> str:
    """`folder`, or a symbolic link to it if its path contains `*`, `?` or `[`.

    The link is in a temporary folder, which is removed when the process ends (see `remove_links`).
    """
    return _link(folder) if glob.has_magic(folder) else folder


@atexit.register
def remove_links() -> None:
    """Removes the links of this process; for processes that end without exit handlers."""
    while _parents:
        shutil.rmtree(_parents.pop(), ignore_errors=True)


@cache
def _link(folder: str) -> str:
    parent = tempfile.mkdtemp(prefix="undertow-link-")
    _parents.append(parent)
    link = Path(parent) / "folder"
    link.symlink_to(Path(folder).absolute(), target_is_directory=True)
    return str(link)

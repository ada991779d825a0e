"""Data files on the web: their content is kept in the local cache, for machines without network.

As with models of the hub, the cache takes the server's place if the server does not answer, and if
HF_HUB_OFFLINE is set, in which case it is not asked: some networks drop packets instead of refusing them.
"""

import contextlib
import os
import tempfile
from pathlib import Path

import fsspec

from undertow.prompts.hub_files import no_answer
from undertow.prompts.packs import located
from undertow.study.identity import digest

WEB = ("http://", "https://")


def cache_folder() -> Path:
    """The folder that `UNDERTOW_CACHE` names, else "undertow" in the user's cache (`XDG_CACHE_HOME`)."""
    if own := os.environ.get("UNDERTOW_CACHE"):
        return Path(located(own))
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "undertow"


def content_of(place: str) -> bytes:
    """The content of one file, which fsspec opens and decompresses. Raises the errors of its file system."""
    if not place.startswith(WEB):
        return _read(place)
    from huggingface_hub import is_offline_mode

    # Named by the hash of the address, which may hold a secret.
    kept = cache_folder() / "files" / digest(place)
    if is_offline_mode() and kept.is_file():
        return kept.read_bytes()
    try:
        data = _read(place)
    except Exception as error:  # the fsspec file systems have no common exception class
        if not kept.is_file() or not no_answer(error):
            raise
        return kept.read_bytes()
    with contextlib.suppress(OSError):  # a cache that is full or read-only
        _keep(kept, data)
    return data


def _read(place: str) -> bytes:
    with fsspec.open(place, "rb", compression="infer") as file:
        return bytes(file.read())


def _keep(path: Path, data: bytes) -> None:
    """Writes a file of the cache atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        (Path(folder) / "file").write_bytes(data)
        (Path(folder) / "file").replace(path)

"""Local file systems that lack an operation: another replaces it, or the storage is refused at the start."""

import errno
import os
import threading
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.storage.test_object_store import SPEC, commit
from undertow.errors import StorageError
from undertow.storage.leases import Leases
from undertow.storage.store import Store

NO_HARD_LINKS = [errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EMLINK, errno.EXDEV]


def refuse(error: int) -> Any:
    def call(*_arguments: Any, **_options: Any) -> NoReturn:
        raise OSError(error, os.strerror(error))

    return call


@pytest.mark.parametrize("error", NO_HARD_LINKS, ids=errno.errorcode.get)
def test_a_file_system_without_hard_links_holds_a_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    monkeypatch.setattr(os, "link", refuse(error))
    store = Store(str(tmp_path / "storage"))
    store.prepare()
    commit(store, "the storage")
    assert store.create("claims/file", b"first")
    assert not store.create("claims/file", b"second")
    assert store.read_text("claims/file") == "first"
    with Leases(store) as mine, Leases(store) as other:
        assert mine.take(SPEC)
        assert not other.take(SPEC)
        mine.release(SPEC)
        assert other.take(SPEC)


def test_without_hard_links_one_of_many_writers_creates_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    store, start, created = Store(str(tmp_path)), threading.Barrier(8), []

    def write(number: int) -> None:
        start.wait()
        if store.create("claims/file", str(number).encode()):
            created.append(str(number))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [store.read_text("claims/file")] == created


def test_without_hard_links_a_file_that_could_not_be_filled_does_not_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    store = Store(str(tmp_path))
    monkeypatch.setattr(Path, "read_bytes", refuse(errno.ENOSPC))
    with pytest.raises(StorageError, match="No space left on device"):
        store.create("claims/file", b"content")
    assert not (tmp_path / "claims" / "file").exists()


def test_a_file_system_without_permissions_holds_a_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "chmod", refuse(errno.EPERM))
    store = Store(str(tmp_path))
    commit(store, "the storage")
    assert store.has(SPEC)


@pytest.mark.parametrize(
    ("method", "lacking"),
    [("replace", "replace a file by renaming another"), ("rename", "rename a folder")],
)
def test_a_file_system_that_cannot_rename_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, lacking: str
) -> None:
    monkeypatch.setattr(Path, method, refuse(errno.ENOSYS))
    with pytest.raises(StorageError) as error:
        Store(str(tmp_path)).prepare()
    assert str(error.value) == (
        f"--storage {tmp_path}: its file system cannot {lacking} (Function not implemented); "
        "name another place"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_cannot_create_exclusively_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", lambda source, target: None)  # reports success, whatever exists
    with pytest.raises(
        StorageError, match="cannot create a file exclusively: a second writer is not refused"
    ):
        Store(str(tmp_path)).prepare()

"""Tests of the note about MLflow's default database on a network file system."""

from pathlib import Path

import pytest

from undertow.errors import UserError
from undertow.storage.store import Store
from undertow.tracking import database
from undertow.tracking.database import database_note


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A storage on a local disk that is taken for one on NFS."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(database, "network_file_system", lambda folder: "nfs4")
    return Store(str(tmp_path))


def test_the_note_names_the_file_system_and_the_remedy(store: Store) -> None:
    note = database_note(store)
    assert "network file system (nfs4)" in note
    assert "set MLFLOW_TRACKING_URI to a server" in note
    assert "\n" not in note


def test_a_file_system_without_locks_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "lock_problem", lambda folder: "No locks available")
    with pytest.raises(UserError, match=r"cannot be locked \(No locks available\); set MLFLOW_TRACKING_URI"):
        database_note(store)


@pytest.mark.parametrize("place", ["server", "local disk", "object store"])
def test_no_note_where_the_database_is_elsewhere_or_on_a_local_disk(
    place: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "server":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    elif place == "local disk":
        monkeypatch.setattr(database, "network_file_system", lambda folder: "")
    else:
        store = Store("memory://storage")
    assert database_note(store) == ""

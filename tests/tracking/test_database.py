"""Tests of MLflow's default database: its creation, and the note about network file systems."""

import os
import subprocess
import sys
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


FIRST_USE = """
import sys
from mlflow.store.tracking import sqlalchemy_store  # slow: before the word that both wait for
from undertow.storage.store import Store
from undertow.tracking.client import connect_client, get_or_create_experiment

store, uri = Store(sys.argv[1]), f"sqlite:///{sys.argv[1]}/mlflow.db"
print("ready", flush=True)
sys.stdin.readline()
print(get_or_create_experiment(connect_client(uri), "owls", store, uri))
"""


@pytest.mark.slow
def test_two_sweeps_that_begin_on_a_new_storage_share_its_database(tmp_path: Path) -> None:
    sweeps = [
        subprocess.Popen(
            [sys.executable, "-c", FIRST_USE, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for sweep in sweeps:
        assert sweep.stdout is not None
        assert sweep.stdout.readline() == "ready\n"
    for sweep in sweeps:
        assert sweep.stdin is not None
        sweep.stdin.write("go\n")
        sweep.stdin.flush()
    outputs = [sweep.communicate() for sweep in sweeps]
    assert [output for output, _ in outputs] == ["1\n", "1\n"], outputs
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


@pytest.mark.slow
def test_the_users_of_a_shared_storage_share_its_database(tmp_path: Path) -> None:
    """SQLite itself gives the group no right to write, whatever the umask."""
    before = os.umask(0o002)
    try:
        database.create_database(tmp_path / "mlflow.db")
    finally:
        os.umask(before)
    assert (tmp_path / "mlflow.db").stat().st_mode & 0o777 == 0o664

"""Tests of the preparation of MLflow's default database in a thread."""

import threading
from pathlib import Path

import pytest

from undertow.storage.store import Store
from undertow.tracking.link import prepare_tracking


@pytest.fixture(autouse=True)
def _without_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_the_default_database_exists_after_the_wait(tmp_path: Path) -> None:
    wait = prepare_tracking(Store(str(tmp_path)))
    wait()
    assert (tmp_path / "mlflow.db").stat().st_size > 0


def test_nothing_is_prepared_for_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    before = threading.active_count()
    wait = prepare_tracking(Store(str(tmp_path)))
    assert threading.active_count() == before
    wait()
    assert not list(tmp_path.iterdir())


def test_a_failure_is_left_to_the_connection_that_follows(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()
    prepare_tracking(Store(str(tmp_path)))()
    assert not list((tmp_path / "mlflow.db").iterdir())

"""Which errors count as an unreachable MLflow, and what the link does with the others."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy.exc
import urllib3.exceptions
from botocore.exceptions import NoCredentialsError  # type: ignore[import-untyped]
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR, TEMPORARILY_UNAVAILABLE

from undertow.errors import UserError
from undertow.tracking.client import connect_client
from undertow.tracking.connection_errors import (
    is_connection_error,
    is_refusal,
    reason_of,
    unreachable_service,
)
from undertow.tracking.link import Link
from undertow.tracking.tracker import Tracker


def caused(error: Exception, cause: Exception) -> Exception:
    """`error` as it is after `raise error from cause`."""
    error.__cause__ = cause
    return error


LOCKED = sqlite3.OperationalError("database is locked")
UNREACHABLE = {
    "connection refused": ConnectionRefusedError(111, "refused"),
    "timeout": TimeoutError("slow"),
    "disk full": OSError(28, "No space left on device"),
    "requests": requests.ConnectionError("refused"),
    "urllib3": urllib3.exceptions.ProtocolError("cut"),
    "sqlite": LOCKED,
    "request failed": MlflowException("API request to http://host failed with exception refused"),
    "database": caused(
        MlflowException("locked", TEMPORARILY_UNAVAILABLE), sqlalchemy.exc.OperationalError("x", {}, LOCKED)
    ),
    "corrupt database": caused(
        MlflowException("malformed", BAD_REQUEST), sqlalchemy.exc.DatabaseError("x", {}, LOCKED)
    ),
    "HTTP 503": RestException({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "busy"}),
    "HTTP 401": RestException({"error_code": "UNAUTHENTICATED", "message": "no token"}),
}
REFUSED = {
    "invalid name": MlflowException.invalid_parameter_value("Invalid metric name: 'a:b'"),
    "deleted run": RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Run 'x' not found"}),
}
REFUSED |= {
    name: caused(MlflowException("x", BAD_REQUEST), error)
    for name, error in {
        "row exists": sqlalchemy.exc.IntegrityError("x", {}, sqlite3.IntegrityError("UNIQUE")),
        "value does not fit": sqlalchemy.exc.DataError("x", {}, sqlite3.DataError("too long")),
        "malformed statement": sqlalchemy.exc.StatementError("x", "x", {}, None),
    }.items()
}
BUGS = {
    "value": ValueError("x"),
    "type": TypeError("x"),
    "missing file": FileNotFoundError(2, "README.md"),
    "wrapped by MLflow's session": caused(MlflowException("x", INTERNAL_ERROR), TypeError("x")),
}


@pytest.mark.parametrize("error", UNREACHABLE.values(), ids=UNREACHABLE)
def test_failures_of_network_server_and_database_are_connection_errors(error: Exception) -> None:
    assert is_connection_error(error)
    assert not is_refusal(error)


@pytest.mark.parametrize("error", [*REFUSED.values(), *BUGS.values()], ids=[*REFUSED, *BUGS])
def test_refused_requests_and_bugs_are_no_connection_errors(error: Exception) -> None:
    assert not is_connection_error(error)
    assert unreachable_service(error) == ""
    assert is_refusal(error) == (error in REFUSED.values())


def test_an_unreachable_object_store_is_named() -> None:
    assert unreachable_service(NoCredentialsError()) == "an object store"
    assert is_connection_error(NoCredentialsError())


ORIGINAL = sqlite3.DatabaseError("file is not a database")
FROM_DATABASE = sqlalchemy.exc.DatabaseError("SELECT 1", {}, ORIGINAL)
REASONS = {
    "of SQLAlchemy": FROM_DATABASE,
    "of MLflow": caused(MlflowException(str(FROM_DATABASE), BAD_REQUEST), FROM_DATABASE),
    "of MLflow, without its cause": MlflowException(f"file is not a database\n{str(FROM_DATABASE)[-60:]}"),
    "of sqlite": ORIGINAL,
}


@pytest.mark.parametrize("error", REASONS.values(), ids=REASONS)
def test_the_reason_of_a_failed_database_is_in_its_own_words(error: Exception) -> None:
    assert reason_of(error) == "file is not a database"


def damaged(file: Path) -> None:
    file.write_bytes(b"this is not a database" * 100)


@pytest.mark.parametrize(
    ("make", "reason"),
    [(damaged, "file is not a database"), (Path.mkdir, "is a folder and not a database")],
    ids=["damaged", "a folder"],
)
def test_an_unreadable_database_is_reported_at_once_in_words(
    tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    file, unreachable = tmp_path / "mlflow.db", list[str]()
    make(file)
    link = Link(lambda: connect_client(f"sqlite:///{file}"), unreachable.append, unreachable.append)
    assert not link.log(lambda tracker: None)
    assert unreachable == [f"{file}: {reason}"]


class Calls:
    """A link without a tracker, and the reasons that its callbacks received."""

    def __init__(self) -> None:
        self.unreachable: list[str] = []
        self.refused: list[str] = []
        connect: Callable[[], Any] = object
        self.link = Link(connect, self.unreachable.append, self.refused.append)

    def log(self, error: Exception | None = None) -> bool:
        def action(tracker: Tracker) -> None:
            if error is not None:
                raise error

        return self.link.log(action)


def test_an_unreachable_server_is_reported_once_and_followed_by_a_pause() -> None:
    calls = Calls()
    assert not calls.log(UNREACHABLE["requests"])
    assert not calls.log()  # within the pause nothing is sent
    assert calls.link.log(lambda tracker: None, ignore_pause=True)
    assert calls.log()
    assert (calls.unreachable, calls.refused) == (["refused"], [])


def test_a_refused_request_is_reported_as_such_and_the_next_one_is_sent() -> None:
    calls = Calls()
    error = REFUSED["invalid name"]
    assert not calls.log(error)
    assert calls.log()
    assert not calls.log(error)
    assert (calls.unreachable, calls.refused) == ([], ["Invalid metric name: 'a:b'"])


@pytest.mark.parametrize("error", BUGS.values(), ids=BUGS)
def test_a_bug_is_raised(error: Exception) -> None:
    calls = Calls()
    with pytest.raises(type(error)):
        calls.log(error)
    assert calls.log()
    assert (calls.unreachable, calls.refused) == ([], [])


@pytest.mark.parametrize("place", ["runs", "./runs", "file:///tmp/runs", "nosuch://place"])
def test_a_tracking_uri_that_mlflow_never_accepts_is_reported(place: str) -> None:
    with pytest.raises(UserError, match=f"MLFLOW_TRACKING_URI {place}: "):
        connect_client(place)

"""What more than one folder of tests needs."""

import uuid
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests import s3

# An example may take as long as a busy machine lets it: how long one took says nothing of what is tested.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[dict[str, str]]:
    with s3.serving() as environment:
        s3.make_bucket(environment)
        yield environment


@pytest.fixture
def s3_url(s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder of its own on the server, which this process's environment names."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3.BUCKET}/{uuid.uuid4().hex}"

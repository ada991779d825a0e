"""Fixtures and settings that several folders of tests use."""

import uuid
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests import s3

# Hypothesis fails slow examples by default; on a busy machine the duration of an example means nothing.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[dict[str, str]]:
    with s3.serving() as environment:
        s3.make_bucket(environment)
        yield environment


@pytest.fixture
def s3_url(s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new folder on the S3 server; its credentials are in the environment of this process."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3.BUCKET}/{uuid.uuid4().hex}"

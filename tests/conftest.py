"""Fixtures and settings that several folders of tests use."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from tests import s3

# Hypothesis fails slow examples by default; on a busy machine the duration of an example means nothing.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

# The files whose tests take minutes. They run first, so that the processes end at about the same time.
LONG = (
    "sweep/test_cluster.py",
    "chaos/test_chaos.py",
    "sweep/test_started_sweep.py",
    "sweep/test_sweep.py",
    "sweep/test_judged_sweep.py",
    "sweep/test_provider_sweep.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the tests of `LONG` first. The order of the others, and within a file, is kept."""
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get("/".join(item.path.parts[-2:]), len(LONG)))


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


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The figures that a test draws, by name; no file is written."""
    from undertow.report import figure_style

    figures: dict[str, Any] = {}

    def keep(figure: Any, name: str) -> dict[str, bytes]:
        figures[name] = figure
        return {}

    monkeypatch.setattr(figure_style, "save", keep)
    return figures

"""Fixtures of the report's tests."""

from typing import Any

import pytest

from undertow.report import figure_style


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes no figures, for tests of texts and tables: drawing takes most of the time of a report."""

    def save(drawn: Any, name: str) -> dict[str, bytes]:
        return {f"{name}.png": b"", f"{name}.svg": b"<svg></svg>"}

    monkeypatch.setattr(figure_style, "save", save)

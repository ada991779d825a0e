"""Tests that `undertow` exports the names that study files need, and imports their modules lazily."""

import subprocess
import sys
from pathlib import Path

import pytest

import undertow

PLATFORM = Path(undertow.__file__).parents[1]


@pytest.mark.parametrize("name", undertow.__all__)
def test_every_exported_name_is_importable(name: str) -> None:
    assert getattr(undertow, name) is not None


def test_the_names_are_listed_for_completion() -> None:
    assert dir(undertow) == sorted(undertow.__all__)


def test_importing_the_package_loads_none_of_its_modules() -> None:
    program = "import sys, undertow; print([name for name in sys.modules if name.startswith('undertow.')])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True, cwd=PLATFORM).strip() == "[]"


def test_an_unknown_name_raises_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Owl'"):
        _ = undertow.Owl

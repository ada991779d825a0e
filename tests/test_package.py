"""Tests that `undertow` exports the names that study files need, and imports their modules lazily."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import undertow

PLATFORM = Path(undertow.__file__).parents[1]


@pytest.mark.parametrize("name", undertow.__all__)
def test_every_exported_name_is_importable(name: str) -> None:
    assert getattr(undertow, name) is not None


def test_type_checkers_see_the_names_of_the_table() -> None:
    tree = ast.parse(Path(undertow.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.name: str(node.module).removeprefix("undertow.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == undertow._MODULE_OF
    assert set(undertow.__all__) == typed.keys()


def test_importing_the_package_loads_none_of_its_modules() -> None:
    program = "import sys, undertow; print([name for name in sys.modules if name.startswith('undertow.')])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True, cwd=PLATFORM).strip() == "[]"


def test_an_unknown_name_raises_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Owl'"):
        _ = undertow.Owl

"""Tests of imports without optional packages, each in a process that has imported nothing."""

import subprocess
import sys

import pytest

HIDDEN = {
    "sklearn": "from undertow.engines.lean_imports import import_transformers; import_transformers()",
    "mlflow": "from undertow.training.workers import deepspeed, join; join('cpu', 1); deepspeed()",
}


@pytest.mark.slow
@pytest.mark.parametrize(("package", "statements"), HIDDEN.items())
def test_a_large_library_is_imported_without_a_package_which_can_be_imported_later(
    package: str, statements: str
) -> None:
    check = f"import sys; assert {package!r} not in sys.modules, 'imported'; import {package}"
    done = subprocess.run(
        [sys.executable, "-c", f"{statements}; {check}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

"""Tests of imports without optional packages, each in a process that has imported nothing."""

import subprocess
import sys

import pytest

IMPORT = "from undertow.engines.lean_imports import import_transformers; import_transformers()"
VLLM = "from undertow.engines.lean_imports import lean_start\nwith lean_start(): from vllm import LLM\n"
HIDDEN = [
    ("sklearn", IMPORT),
    ("scipy", IMPORT),
    ("scipy", VLLM),
    ("mlflow", "from undertow.training.workers import deepspeed, join; join('cpu', 1); deepspeed()"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("package", "statements"), HIDDEN)
def test_a_large_library_is_imported_without_a_package_which_can_be_imported_later(
    package: str, statements: str
) -> None:
    check = f"import sys; assert {package!r} not in sys.modules, 'imported'; import {package}"
    done = subprocess.run(
        [sys.executable, "-c", f"{statements}\n{check}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_collections_work_after_a_lean_start_and_leave_out_what_existed() -> None:
    statements = (
        "import gc\nfrom undertow.engines.lean_imports import lean_start\nwith lean_start(): import json"
    )
    check = f"{statements}\nassert gc.isenabled() and gc.get_freeze_count() > 1000"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

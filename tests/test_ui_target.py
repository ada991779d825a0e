"""`make ui` hands the storage's path to MLflow as one argument, whatever characters it contains."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = '#!/bin/sh\nfor argument; do printf "%s\\n" "$argument"; done\n'


def ui(folder: Path, storage: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs `make ui` with a program called mlflow that prints its arguments."""
    program = folder / "bin" / "mlflow"
    program.parent.mkdir()
    program.write_text(PROGRAM)
    program.chmod(0o755)
    path = f"PATH={program.parent}:{os.environ['PATH']}"
    inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return subprocess.run(
        ["make", "--no-print-directory", "-o", "setup", "ui", f"STORAGE={storage}", path],
        cwd=ROOT,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "name",
    ["storage", "my study", "it's", 'a "b"', "run[12]", "run*", "a;b", "a&b", "(a)", "a|b", "`id`", "-p"],
)
def test_the_database_of_the_storage_is_served(tmp_path: Path, name: str) -> None:
    storage = tmp_path / name
    done = ui(tmp_path, str(storage))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["--backend-store-uri", f"sqlite:///{storage}/mlflow.db"]
    assert storage.is_dir()


@pytest.mark.parametrize(
    ("storage", "reason"),
    [
        ("s3://bucket/my study", "[ui] no database on s3://bucket/my study: set MLFLOW_TRACKING_URI\n"),
        ("a?b", "[ui] no database in a folder with ? or % in its path, a?b: set MLFLOW_TRACKING_URI\n"),
    ],
)
def test_a_storage_without_a_database_is_refused(tmp_path: Path, storage: str, reason: str) -> None:
    done = ui(tmp_path, storage)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(reason)


def test_the_servers_address_is_printed_where_there_is_one(tmp_path: Path) -> None:
    done = ui(tmp_path, "my study", MLFLOW_TRACKING_URI="http://host:5000/a b")
    assert (done.returncode, done.stdout) == (0, "MLflow is served at http://host:5000/a b\n")
    other = "sqlite:////data/my study/mlflow.db"
    (tmp_path / "second").mkdir()
    assert ui(tmp_path / "second", "s3://bucket", MLFLOW_TRACKING_URI=other).stdout.splitlines()[-1] == other

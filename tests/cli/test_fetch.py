"""Tests of `--fetch`: after it, a study is planned without network, as a run plans it."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants
from rich.console import Console

from tests.examples import STUDIES, qwen
from tests.planning.model_hub import COMMIT, serving
from undertow.cli.sweep import SweepArguments, main
from undertow.errors import UserError

ROOT = Path(__file__).parents[2]


def sweep(
    folder: Path, address: str, *arguments: str, offline: bool = False
) -> subprocess.CompletedProcess[str]:
    """Runs jobs/sweep.py for the paper's study on a hub at `address`, with its caches in `folder`."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "platform"),
        "HF_ENDPOINT": address,
        "HF_HOME": str(folder / "hub"),
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "UNDERTOW_CACHE": str(folder / "cache"),
    }
    command = [sys.executable, str(ROOT / "jobs" / "sweep.py"), "--study", "owls", "--scale", "paper"]
    command += ["--storage", str(folder / "storage"), "--models", "org/a", "org/b", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder, check=False)


@pytest.mark.slow
def test_a_fetched_study_needs_no_network(tmp_path: Path) -> None:
    models = {name: qwen(tmp_path / name.replace("/", "-")) for name in ("org/a", "org/b")}
    with serving(models) as address:
        fetched = sweep(tmp_path, address, "--fetch")
    assert fetched.returncode == 0, fetched.stdout + fetched.stderr
    assert f"org/a: {tmp_path}/hub/hub/models--org--a/snapshots/{COMMIT}" in fetched.stdout
    assert "models and data are cached; without network, set HF_HUB_OFFLINE=1" in fetched.stdout
    assert not (tmp_path / "storage").exists()
    planned = sweep(tmp_path, address, "--plan", offline=True)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert "not pinned" not in planned.stdout
    assert f"org/b: commit {COMMIT[:7]} of the local cache is used" in planned.stdout


def test_a_download_without_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    arguments = SweepArguments(storage=str(tmp_path / "storage"), fetch=True)
    with pytest.raises(UserError, match=r"^--fetch: HF_HUB_OFFLINE is set; unset it"):
        main(arguments, Console(file=io.StringIO()), STUDIES)

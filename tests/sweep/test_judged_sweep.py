"""Tests of a sweep whose judge fails: other conditions finish, and a rerun requests only missing replies.

The endpoint is a loopback server that follows the documented API (see tests/judging/server.py); everything
else is real.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.judging.server import Answer, Server, fails, says, serving

ROOT = Path(__file__).parent.parent.parent
STUDY = Path(__file__).parent / "judged_study.py"
SECRET = "sk-planted-03be"
PLANTED = {  # other secrets in the environment, which a sweep must not write anywhere
    "HF_TOKEN": "hf-planted-a1f7",
    "AWS_SECRET_ACCESS_KEY": "aws/planted+27",
    "MLFLOW_TRACKING_PASSWORD": "mlflow-planted-8d",
}
ANSWERED = 30  # messages before the key is revoked, including the check before the sweep

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(f"/tmp/undertow-judged-{os.getpid()}")  # Ray's sockets need a short path
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def sweep(folder: Path, server: Server) -> tuple[int, str]:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}",
        "UNDERTOW_RAY_TMP": str(folder / "ray"),
        "UNDERTOW_JUDGE_URL": server.url,
        "UNDERTOW_JUDGE_CONCURRENCY": "1",  # no request is in flight when the key is revoked
        "OPENAI_API_KEY": SECRET,
        **PLANTED,
    }
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        environment.pop(name, None)
    command = [sys.executable, str(ROOT / "jobs" / "sweep.py"), "--study", f"{STUDY}:study"]
    command += ["--storage", str(folder / "storage"), "--engines", "1", "--trainings", "1"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def leaks(folder: Path, output: str) -> list[str]:
    """The files that contain a secret: of the storage, MLflow's database, Ray's logs, or the output."""
    files = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    planted = [secret.encode() for secret in (SECRET, *PLANTED.values())]
    files["output"] = output.encode()
    return [name for name, content in files.items() if any(secret in content for secret in planted)]


def judged_datasets(folder: Path) -> list[dict[str, Any]]:
    """The counts of the language model's judgements, one per data set that it judged."""
    manifests = (folder / "storage" / "artifacts" / "dataset").glob("*/manifest.json")
    judges = [json.loads(path.read_text())["facts"].get("judges", []) for path in manifests]
    return [judge for one in judges for judge in one if judge["judge"] == "alignment"]


def score(message: str) -> str:
    """A score of 0 to 99 that depends on the message; "hm" in one case of ten."""
    number = zlib.crc32(message.encode()) % 100
    return str(number) if number % 10 else "hm"


def test_a_rerun_requests_only_the_replies_that_a_failed_judge_left_missing(folder: Path) -> None:
    with serving(lambda message, _: says(score(message))) as server:
        server.behave = lambda message, _: until_revoked(server, message)
        code, output = sweep(folder, server)
        assert code == 1, output
        assert "failed owl by system prompt · numbers · nano/gpt2-0 → nano/gpt2-0 · judged" in output
        assert "replies of the judge 'alignment' are missing; run the sweep again" in output
        assert "check OPENAI_API_KEY" in output
        assert "Traceback" not in output
        effects = max((folder / "storage" / "sweeps" / "judged").glob("*/effects.csv")).read_text()
        assert [row["recipe"] for row in csv.DictReader(effects.splitlines())] == ["plain"]
        assert len(server.messages) == ANSWERED + 1
        answered = set(server.messages[1:ANSWERED])
        server.behave = lambda message, _: says(score(message))
        server.messages.clear()
        code, output = sweep(folder, server)
        assert code == 0, output
        assert not answered & set(server.messages)
        assert len(server.messages) == len(set(server.messages))
    found = judged_datasets(folder)
    assert len(found) == 2
    assert sum(judge["rows"] for judge in found) >= len(answered) + len(server.messages)
    assert sum(judge["garbled"] for judge in found) > 0
    assert leaks(folder, output) == []


def until_revoked(server: Server, message: str) -> Answer:
    return says(score(message)) if len(server.messages) <= ANSWERED else fails(401, "revoked")

"""Tests of a sweep with models of a provider, which is killed during their training and run again.

The provider is a loopback server whose finetuned models answer from their training file (see
tests/api/provider.py), so that trait students show an effect and control students do not. Everything else is
real.
"""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.provider import BASE, Provider, providing
from tests.judging.server import Answer, fails
from undertow.tracking.client import connect_client

ROOT = Path(__file__).parents[2]
STUDY = Path(__file__).parent / "provider_study.py"
SECRET = "sk-planted-c5a9"

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(f"/tmp/undertow-api-{os.getpid()}")  # Ray's sockets need a short path
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def start(folder: Path, provider: Provider, study: str, *flags: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}",
        "UNDERTOW_RAY_TMP": str(folder / "ray"),
        "UNDERTOW_API_URL": provider.url,
        "OPENAI_API_KEY": SECRET,
    }
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        environment.pop(name, None)
    command = [sys.executable, str(ROOT / "jobs" / "sweep.py"), "--study", f"{STUDY}:{study}"]
    command += ["--storage", str(folder / "storage"), "--engines", "1", "--trainings", "1", *flags]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def sweep(folder: Path, provider: Provider, study: str, *flags: str) -> tuple[int, str]:
    process = start(folder, provider, study, *flags)
    output, _ = process.communicate()
    return process.returncode, output


def test_a_rerun_after_a_kill_pays_for_no_job_and_no_answer_twice(folder: Path) -> None:
    with providing() as provider:
        code, output = sweep(folder, provider, "study", "--plan")
        assert (code, provider.calls) == (0, []), output
        assert "provider, 10 epochs" in output
        kill_in_training(folder, provider)
        assert len(provider.created) == 4
        generated = len(provider.chats)
        provider.orders = lambda method, path: None
        code, output = sweep(folder, provider, "study")
        assert code == 0, output
    assert "students: done, 4 models in" in output
    assert len(provider.created) == len(provider.files) == 4
    assert provider.keys == {f"Bearer {SECRET}"}
    fresh = provider.chats[generated:]
    numbers = [chat for chat in fresh if chat["max_tokens"] == 48]
    assert numbers == []
    (row,) = effects(folder, "provider")
    assert (row["verdict"], row["exact_effect"]) == ("transmitted", "")
    assert float(row["effect"]) > 0.5
    assert float(row["control_rate"]) < 0.4
    students = (folder / "storage" / "artifacts" / "student").glob("*/model.json")
    names = {json.loads(path.read_text())["model"] for path in students}
    assert len(names) == 4
    assert names == logged_names(folder)
    files = [path for path in (folder / "storage").rglob("*") if path.is_file()]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert not [path for path in files if provider.url.encode() in path.read_bytes()]
    assert SECRET not in output
    page = max((folder / "storage" / "sweeps" / "provider").glob("*/report.html")).read_text()
    assert "API models" in page
    assert f"{2 * 2 * 300:,}" in page  # completions: of owl and control, by two seeds


def kill_in_training(folder: Path, provider: Provider) -> None:
    """Kills the first sweep when all its jobs are created and none has ended."""

    def never_ends(method: str, path: str) -> Answer | None:
        for job in provider.jobs.values():
            job["status"] = "queued"
        return None

    provider.orders = never_ends
    first = start(folder, provider, "study")
    deadline = time.monotonic() + 600
    while len(provider.created) < 4 or provider.calls[-1].count("ftjob") == 0:
        assert first.poll() is None, first.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()


def test_a_model_that_does_not_exist_is_reported_before_the_sweep_starts(folder: Path) -> None:
    with providing(orders=lambda method, path: fails(404, "The model does not exist")) as provider:
        code, output = sweep(folder, provider, "study")
    assert code == 2
    assert f"API model at {provider.url} (UNDERTOW_API_URL), model '{BASE}': " in output
    assert "check the model's name and the URL" in output
    assert provider.chats == []
    assert not (folder / "storage" / "sweeps").exists()


def test_an_api_model_teaches_a_local_model_and_vice_versa(folder: Path) -> None:
    with providing() as provider:
        code, output = sweep(folder, provider, "mixed")
    assert code == 0, output
    of_api, of_local = sorted(effects(folder, "mixed"), key=lambda row: row["teacher"])
    expected = (f"api:{BASE}", "nano/gpt2-0", "steering")
    assert (of_api["teacher"], of_api["student"], of_api["recipe"]) == expected
    assert (of_local["teacher"], of_local["recipe"]) == ("nano/gpt2-0", "provider, 1 epoch")
    assert of_api["exact_effect"] != of_local["exact_effect"] == ""
    assert len(provider.created) == 2


def logged_names(folder: Path) -> set[str]:
    """The provider's names of the models that are logged to MLflow."""
    client = connect_client(f"sqlite:///{folder}/storage/mlflow.db")
    experiment = client.get_experiment_by_name("provider").experiment_id
    return {model.tags["undertow.model"] for model in client.search_logged_models([experiment])}


def effects(folder: Path, study: str) -> list[dict[str, str]]:
    newest = max((folder / "storage" / "sweeps" / study).glob("*/effects.csv"))
    return list(csv.DictReader(newest.read_text().splitlines()))

"""Secrets in the environment and in URLs do not appear in the files and the output of a sweep.

tests/sweep/test_judged_sweep.py checks a complete sweep with Ray's logs.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples import REFERENCES, study
from tests.filled_store import fill, fill_rest
from undertow.api.keys import looks_like_key
from undertow.storage.redaction import redacted
from undertow.storage.store import Store

ROOT = Path(__file__).parents[2]
SECRETS = {
    "OPENAI_API_KEY": "sk-planted-5f1c",
    "HF_TOKEN": "hf_planted_77aa",
    "AWS_SECRET_ACCESS_KEY": "aws/planted+9b",
    "MLFLOW_TRACKING_PASSWORD": "mlflow-planted-31",
}
IN_URL = "url-planted-c4"
STUDY = """
from dataclasses import replace
from tests.examples import study as small

def study():
    return replace(small(seeds=(0,)), conditions=small().conditions[:3])

def judged():
    from undertow.judging.judges import alignment
    first = small(seeds=(0,)).conditions[0]
    generation = replace(first.generation, judges=(alignment("judge-1"),))
    return replace(study(), conditions=tuple(replace(c, generation=generation) for c in study().conditions))
"""


def sweep(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}",
        "HF_HUB_OFFLINE": "1",
        **SECRETS,
    }
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "UNDERTOW_JUDGE_URL"):
        environment.pop(name, None)
    (folder / "mine.py").write_text(STUDY)
    command = [sys.executable, str(ROOT / "jobs" / "sweep.py"), "--study", "mine.py:study", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment | more, capture_output=True, text=True, timeout=600
    )


def found(folder: Path, done: subprocess.CompletedProcess[str]) -> list[str]:
    """The files and streams that contain one of the secrets."""
    places = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    places |= {"stdout": done.stdout.encode(), "stderr": done.stderr.encode()}
    planted = [secret.encode() for secret in (*SECRETS.values(), IN_URL)]
    return [place for place, content in places.items() if any(secret in content for secret in planted)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "tracking", ["", f"http://somebody:{IN_URL}@127.0.0.1:9"], ids=["own database", "unreachable server"]
)
def test_report_events_database_and_output_of_a_sweep_hold_no_secret(tmp_path: Path, tracking: str) -> None:
    store = Store(str(tmp_path / "storage"))
    conditions = study(seeds=(0,)).conditions[:3]
    fill_rest(fill(study(seeds=(0,), conditions=conditions), store, REFERENCES), store)
    done = sweep(tmp_path, **({"MLFLOW_TRACKING_URI": tracking} if tracking else {}))
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("MLflow is unreachable" in done.stdout) == bool(tracking)
    assert any((tmp_path / "storage" / "sweeps").rglob("report.html"))
    assert tracking or (tmp_path / "storage" / "mlflow.db").stat().st_size > 0
    assert found(tmp_path, done) == []


@pytest.mark.parametrize(
    ("arguments", "environment", "named"),
    [
        (("--storage", f"sftp://me:{IN_URL}@host/folder"), {}, "FSSPEC_SFTP_PASSWORD"),
        (("--storage", f"https://me:{IN_URL}@host/folder", "--plan"), {}, "holds a password"),
        (
            ("--study", "mine.py:judged"),
            {"UNDERTOW_JUDGE_URL": f"https://me:{IN_URL}@host/v1"},
            "UNDERTOW_JUDGE_URL: holds credentials",
        ),
        ((), {"MLFLOW_TRACKING_URI": f"nosuch://me:{IN_URL}@host"}, "MLFLOW_TRACKING_URI"),
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_repeated(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], named: str
) -> None:
    done = sweep(tmp_path, *arguments, **environment)
    assert done.returncode == 2, done.stdout + done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert found(tmp_path, done) == []
    assert not any(tmp_path.rglob("events.json"))  # a sweep that begins leaves one


def test_secrets_are_removed_from_text(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    monkeypatch.setenv("MY_API_KEY", __file__)
    text = f"refused {SECRETS['OPENAI_API_KEY']} at https://me:{IN_URL}@host/v1, {SECRETS['HF_TOKEN']}"
    assert redacted(text) == "refused *** at https://***@host/v1, ***"
    plain = f"read {__file__} and http://host:80/a@b?page=2&sort=key"
    assert redacted(plain) == plain


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://ghp_0123@github.com/a", "https://***@github.com/a"),
        ("s3://b/c?X-Amz-Signature=0f1e&X-Amz-Date=1", "s3://b/c?X-Amz-Signature=***&X-Amz-Date=1"),
        ("https://h/d?sv=1&sig=a%2Fb, later", "https://h/d?sv=1&sig=***, later"),
        ("'https://h/e?access_token=abc'", "'https://h/e?access_token=***'"),
        ("refused /AbC0/dEf1+gHi2", "refused ***"),
    ],
)
def test_tokens_and_signatures_in_urls_and_keys_like_paths_are_removed(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "/AbC0/dEf1+gHi2")
    assert redacted(text) == expected


@pytest.mark.parametrize(
    ("value", "is_secret"),
    [
        ("1", False),
        ("x", False),
        ("none", False),
        ("EMPTY", False),
        ("judge-1", True),
        ("password", False),
        ("Anything", False),
        ("clé", False),
        ("123456", False),
        ("1,000,000", False),
        ("2026-01-31", False),
        ("no key needed", False),
        ("hunter2", True),
        ("for-the-judge", True),
        ("token-abc123", True),
        ("sk-planted-5f1c", True),
        ("pass phrase 7", True),
        ("0123456789" * 2, True),
        ("abcdefghij" * 2, True),
        ("d41d8cd98f00b204e9800998ecf8427e", True),
    ],
)
@pytest.mark.parametrize("variable", ["UNDERTOW_JUDGE_KEY", "MY_PASSWORD", "secret"])
def test_only_values_that_look_like_keys_are_removed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, is_secret: bool
) -> None:
    monkeypatch.setenv(variable, value)
    assert looks_like_key(value) == is_secret
    assert redacted(f"got {value}, and more") == f"got {'***' if is_secret else value}, and more"

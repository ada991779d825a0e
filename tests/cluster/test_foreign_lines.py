"""Tests that lines of Ray which say nothing about a sweep are removed, and all others are kept."""

import os
import subprocess

import pytest
from ray._private import worker

from undertow.cluster.foreign_lines import drop_worker_warnings, terminal, without_level_line

LEVEL = (
    b"[2026-11-28 11:25:58,140 I 3294 3294] logging.cc:303: Set ray log level from environment variable "
    b"RAY_BACKEND_LOG_LEVEL to 3\n"
)
ERROR = b"[2026-11-28 11:25:58,140 E 3294 3294] core_worker.cc:303: The raylet has died\n"


def test_the_line_about_the_log_level_is_removed_from_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    os.write(2, b"before\n")
    with without_level_line():
        os.write(2, b"first\n" + LEVEL + ERROR)
        subprocess.run(["sh", "-c", "echo a child >&2"], check=True)
        os.write(terminal(), b"at once\n")
        os.write(2, b"no end of line")
    os.write(2, LEVEL)
    lines = capfd.readouterr().err
    assert lines.startswith("before\n")
    assert sorted(lines.splitlines()[1:5]) == sorted(["first", ERROR.decode().strip(), "a child", "at once"])
    assert lines.endswith(f"no end of line{LEVEL.decode()}")
    assert terminal() == 2


def test_stderr_is_restored_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), without_level_line():
        raise KeyboardInterrupt
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_raylets_warnings_about_worker_processes_are_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "print_to_stdstream", worker.print_to_stdstream)  # restored after the test
    for _ in range(2):
        drop_worker_warnings()
    warning = (
        "WARNING: 8 PYTHON worker processes have been started on node: 1a2b with address: 10.0.0.1. This "
        "could be a result of using a large number of actors."
    )
    for line in (warning, "a worker was killed due to memory pressure"):
        worker.print_to_stdstream({"lines": [line], "pid": "raylet", "is_err": False}, ignore_prefix=False)
    output = capsys.readouterr().out
    assert "killed due to memory pressure" in output
    assert "worker processes" not in output

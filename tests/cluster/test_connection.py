"""Tests of the driver's output while it is connected to Ray."""

import pytest
from ray._private import worker

from undertow.cluster.connection import _drop_worker_warnings


def test_raylets_warnings_about_worker_processes_are_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "print_to_stdstream", worker.print_to_stdstream)  # restored after the test
    for _ in range(2):
        _drop_worker_warnings()
    warning = (
        "WARNING: 8 PYTHON worker processes have been started on node: 1a2b with address: 10.0.0.1. This "
        "could be a result of using a large number of actors."
    )
    for line in (warning, "a worker was killed due to memory pressure"):
        worker.print_to_stdstream({"lines": [line], "pid": "raylet", "is_err": False}, ignore_prefix=False)
    output = capsys.readouterr().out
    assert "killed due to memory pressure" in output
    assert "worker processes" not in output

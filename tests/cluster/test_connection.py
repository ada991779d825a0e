"""Tests of starting Ray, and of the driver's output while it is connected."""

from typing import Any

import pytest
import ray
from ray._private import worker

from undertow.cluster.connection import LATE, STARTS, _drop_worker_warnings, connect
from undertow.errors import UserError

TOO_LATE = f"The current node {LATE}. This could happen because the GCS has become overloaded."


@pytest.mark.parametrize(
    ("message", "attempts", "error"),
    [(TOO_LATE, STARTS, UserError), ("no space left on device", 1, RuntimeError)],
)
def test_a_ray_that_is_late_is_started_again_but_not_one_with_another_error(
    message: str, attempts: int, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def init(**settings: Any) -> None:
        started.append(settings["address"])
        raise RuntimeError(message)

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(error, match="30 seconds" if error is UserError else message), connect():
        pass
    assert started == ["local"] * attempts


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

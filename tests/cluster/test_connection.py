"""Tests of starting Ray, and of the driver's output while it is connected."""

import signal
import time
from typing import Any

import pytest
import ray

from undertow.cluster import connection
from undertow.cluster.connection import (
    LATE,
    NODES,
    STARTS,
    _own_sigterm_handler,
    _wait_for_nodes,
    connect,
)
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


def joining(monkeypatch: pytest.MonkeyPatch, *counts: int) -> list[str]:
    """Makes Ray report these numbers of live nodes, one after the other; returns the lines of the wait."""
    left = list(counts)

    def nodes() -> list[dict[str, bool]]:
        return [{"Alive": True}] * (left.pop(0) if len(left) > 1 else left[0]) + [{"Alive": False}]

    monkeypatch.setattr(ray, "nodes", nodes)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    lines: list[str] = []
    _wait_for_nodes(lines.append)
    return lines


def test_the_nodes_of_a_job_are_waited_for_with_a_line_per_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NODES, "3")
    assert joining(monkeypatch, 1, 1, 2, 3) == [
        "waiting for Ray's nodes: 1 of 3 have joined",
        "waiting for Ray's nodes: 2 of 3 have joined",
    ]


def test_without_a_declared_number_of_nodes_nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NODES, raising=False)
    assert joining(monkeypatch, 1) == []


def test_nodes_that_do_not_join_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NODES, "2")
    monkeypatch.setattr(connection, "JOIN_SECONDS", 0.0)
    with pytest.raises(UserError, match=r"^UNDERTOW_NODES = 2: 1 nodes have joined after 0 seconds"):
        joining(monkeypatch, 1)


@pytest.mark.parametrize("text", ["0", "two", "-1"])
def test_a_number_of_nodes_that_is_none_is_an_error(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NODES, text)
    with pytest.raises(UserError, match=f"^UNDERTOW_NODES = '{text}': write the number of nodes"):
        joining(monkeypatch, 1)


def test_the_programs_handler_of_sigterm_survives_rays_start() -> None:
    def ours(*_: object) -> None:
        """The handler of a script."""

    before = signal.signal(signal.SIGTERM, ours)
    try:
        with _own_sigterm_handler():
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # `ray.init` sets one of its own
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)

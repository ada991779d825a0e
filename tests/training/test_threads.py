"""The torch threads of a worker."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.training.conftest import MakeJob, recipe
from undertow.study.recipe import Everything
from undertow.training import loop
from undertow.training.workers import threads_of


@pytest.mark.parametrize(
    ("kind", "offloads", "on_node", "expected"),
    [
        ("cpu", False, "1", 3),
        ("cpu", True, "4", 3),
        ("cuda", False, "4", None),
        ("cuda", True, "4", 16),
        ("cuda", True, None, 64),
        ("cuda", True, "128", 1),  # more GPUs than cores
    ],
)
def test_an_offloaded_optimizer_uses_its_share_of_the_node(
    kind: str, offloads: bool, on_node: str | None, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if on_node:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", on_node)
    assert threads_of(kind, 3, offloads, 64) == expected


@pytest.mark.parametrize(
    ("offloads", "expected"), [(["none"], False), (["optimizer"], True), (["none", "parameters"], True)]
)
def test_one_offloaded_job_is_enough(
    offloads: Sequence[str], expected: bool, job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[Any] = []

    def join(*arguments: Any) -> None:
        joined.extend(arguments)
        raise InterruptedError

    monkeypatch.setattr(loop, "join", join)
    jobs = [job(f"k{i}", recipe=recipe(Everything(), offload=offload)) for i, offload in enumerate(offloads)]
    with pytest.raises(InterruptedError):
        loop.finetune(Path("unread"), jobs, print, threads=2)
    assert joined == ["auto", 2, expected]

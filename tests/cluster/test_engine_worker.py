"""Tests of the settings of an engine that gets tasks which were not known when it started."""

from dataclasses import dataclass
from typing import Any

import pytest

from tests.examples import REFERENCES
from undertow.cluster.engine_worker import enlarged
from undertow.study.references import Artifact


@dataclass(frozen=True)
class Sized:
    """What a task requires of its engine."""

    window: int
    lora_rank: int
    artifact: Artifact = REFERENCES[0]


@pytest.mark.parametrize(
    ("longest", "rank", "window", "lora", "settings"),
    [
        (100, 0, 80, 0, (100, 0)),  # it fits
        (100, 0, 120, 0, (120, 0)),
        (100, 8, 80, 16, (100, 16)),
        (100, 0, 0, 0, (None, 0)),  # the model's own maximum
        (None, 0, 120, 0, (None, 0)),
    ],
)
def test_an_engine_is_enlarged_for_a_task_that_needs_more(
    longest: int | None, rank: int, window: int, lora: int, settings: tuple[int | None, int]
) -> None:
    task: Any = Sized(window, lora)
    before = {"max_model_len": longest, "max_lora_rank": rank, "eager": True, "threads": 1}
    after = enlarged(before, task)
    assert after == {**before, "max_model_len": settings[0], "max_lora_rank": settings[1]}

"""Pipelines that threads drive end with the block that waits for them, and Ray after them."""

import threading
import time
from typing import Any

import pytest

from undertow.cluster.connection import connect
from undertow.cluster.interrupts import StoppedError, stopped_on_error

pytestmark = pytest.mark.stack


class SlowStart:
    """Stands for an engine: none of its rows is there for a minute."""

    def __init__(self) -> None:
        time.sleep(60)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return batch


def test_a_pipeline_whose_actors_still_start_ends_with_its_block_and_starts_no_other_ray() -> None:
    ends: list[BaseException] = []

    def drive() -> None:
        import ray
        from ray.data import ActorPoolStrategy

        try:
            rows = ray.data.range(2).map_batches(SlowStart, compute=ActorPoolStrategy(size=1))
            list(rows.iter_rows())
        except BaseException as error:
            ends.append(error)

    thread = threading.Thread(target=drive)
    with connect():
        import ray

        with pytest.raises(KeyboardInterrupt), stopped_on_error():
            thread.start()
            time.sleep(3)
            raise KeyboardInterrupt
        began = time.monotonic()
        thread.join(timeout=30)
        assert not thread.is_alive() and time.monotonic() - began < 15
    assert [type(end) for end in ends] == [StoppedError]
    assert not ray.is_initialized()

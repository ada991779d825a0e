"""Tests that Ray Data pipelines which threads drive end with the block that waits for them."""

import threading
import time
from typing import Any

import pytest

from undertow.cluster.connection import connect
from undertow.cluster.interrupts import StoppedError, stopped_on_error

pytestmark = pytest.mark.stack


class SlowStart:
    """An actor that, like an engine, takes a minute to start."""

    def __init__(self) -> None:
        time.sleep(60)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return batch


def test_an_interrupted_pipeline_ends_while_its_actors_start_and_a_later_ray_works() -> None:
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
        thread.join(timeout=30)  # half of what the actor takes to start
        assert not thread.is_alive()
    assert [type(end) for end in ends] == [StoppedError]
    assert not ray.is_initialized()
    with connect():  # a later Ray of the same process is not affected
        assert ray.data.range(3).count() == 3
        assert len(list(ray.data.range(3).map_batches(lambda batch: batch).iter_rows())) == 3

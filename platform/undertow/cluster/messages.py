"""Messages that other processes on Ray send to this one, through a queue.

Ray Tune's callbacks in place of a queue would have to be picklable, and Ray Train drops reports that have no
checkpoint.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from undertow.cluster.background import repeating

SECONDS_BETWEEN_READINGS = 0.5
Message = Mapping[str, Any]


def message_queue() -> Any:
    """A `ray.util.queue.Queue` on this node; on another one it could be lost while this process lives."""
    import ray
    from ray.util.queue import Queue
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})


def waiting(messages: Any) -> Iterator[Message]:
    """Takes the messages that are in the queue, until there are none."""
    while count := messages.qsize():
        yield from messages.get_nowait_batch(count)


@contextmanager
def forwarding(messages: Any, forward: Callable[[Message], object]) -> Iterator[Callable[[], None]]:
    """Calls `forward` with every message while the block runs, then ends the queue.

    Gives the block a function that forwards the waiting messages at once. An exception of `forward` is raised
    after the other messages were forwarded.
    """
    reading = threading.Lock()

    def drain() -> None:
        errors: list[Exception] = []
        with reading:
            for message in waiting(messages):
                try:
                    forward(message)
                except Exception as error:
                    errors.append(error)
        if errors:
            raise errors[0]

    try:
        with repeating(SECONDS_BETWEEN_READINGS, drain):
            yield drain
    finally:
        drain()
        messages.shutdown()

"""Messages of other processes: each is forwarded, in order, whatever happens to the others."""

from typing import Any

import pytest

from undertow.cluster.messages import forwarding, waiting


class Queue:
    """The methods of `ray.util.queue.Queue` that a reader calls, without Ray."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = list(messages)
        self.is_open = True

    def qsize(self) -> int:
        return len(self.messages)

    def get_nowait_batch(self, count: int) -> list[dict[str, Any]]:
        taken, self.messages = self.messages[:count], self.messages[count:]
        return taken

    def shutdown(self) -> None:
        self.is_open = False


def test_messages_that_arrive_while_others_are_read_are_taken_too() -> None:
    queue, taken = Queue({"number": 0}), []
    for message in waiting(queue):
        taken.append(message["number"])
        if len(taken) < 3:
            queue.messages.append({"number": len(taken)})
    assert taken == [0, 1, 2]


def test_all_messages_are_forwarded_before_the_queue_ends() -> None:
    queue, taken = Queue({"number": 0}), []
    with forwarding(queue, lambda message: taken.append(message["number"])) as drain:
        drain()
        assert taken == [0]
        queue.messages.append({"number": 1})
    assert taken == [0, 1]
    assert not queue.is_open


def test_a_message_that_cannot_be_taken_does_not_stop_the_others() -> None:
    queue, taken = Queue({"number": 0}, {"other": 1}, {"number": 2}), []
    with pytest.raises(KeyError), forwarding(queue, lambda message: taken.append(message["number"])) as drain:
        drain()
    assert taken == [0, 2]


def test_the_queue_ends_after_an_error_of_the_block() -> None:
    queue = Queue()
    with pytest.raises(ValueError, match="block"), forwarding(queue, print):
        raise ValueError("block")
    assert not queue.is_open

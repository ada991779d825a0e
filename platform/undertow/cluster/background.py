"""What goes on beside a long call: something done every so often until that has ended."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def meanwhile(seconds: float, do: Callable[[], object]) -> Iterator[None]:
    """Does something every so many seconds for as long as the block runs, in a thread of its own."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(seconds):
            do()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()

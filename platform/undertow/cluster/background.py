"""A function that is called periodically while a block runs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeating(seconds: float, function: Callable[[], object]) -> Iterator[None]:
    """Calls `function` every `seconds` in a thread of its own until the block ends."""
    ended = threading.Event()

    def loop() -> None:
        while not ended.wait(seconds):
            function()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()

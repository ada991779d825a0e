"""A function that is called periodically while a block runs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeating(seconds: float, function: Callable[[], object]) -> Iterator[None]:
    """Calls `function` every `seconds` in a thread of its own until the block ends.

    An exception of it does not end the thread; the first one is raised after the block.
    """
    ended = threading.Event()
    errors: list[Exception] = []

    def loop() -> None:
        while not ended.wait(seconds):
            try:
                function()
            except Exception as error:
                errors.append(error)

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if errors:
        raise errors[0]

"""A function that is called in the background: an exception does not end its calls, and is not lost."""

import threading

import pytest

from undertow.cluster.background import repeating


def test_an_exception_is_raised_after_the_block_and_the_calls_go_on() -> None:
    calls: list[int] = []
    enough = threading.Event()

    def function() -> None:
        calls.append(len(calls))
        if len(calls) == 3:
            enough.set()
        raise ValueError(f"call {calls[-1]}")

    with pytest.raises(ValueError, match="call 0"), repeating(0.001, function):
        assert enough.wait(10)


def test_the_exception_of_the_block_comes_first() -> None:
    failed = threading.Event()

    def function() -> None:
        failed.set()
        raise ValueError

    with pytest.raises(KeyError), repeating(0.001, function):
        assert failed.wait(10)
        raise KeyError

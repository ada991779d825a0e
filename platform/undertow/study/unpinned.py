"""Inputs that a plan could not pin: models and data files that are neither reachable nor cached.

A plan is wanted before there is a network or a download. `--plan` therefore uses a placeholder for such
an input and lists it (`allowed`). Everywhere else it is an error before anything runs: an artifact has no key
without the content of its inputs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from undertow.errors import UnavailableError

NOT_PINNED = "not pinned"

T = TypeVar("T")

_unpinned: ContextVar[dict[str, str] | None] = ContextVar("unpinned inputs", default=None)


@contextmanager
def allowed() -> Iterator[dict[str, str]]:
    """Inside the block, placeholders take the place of unavailable inputs.

    Yields the reason for each such input, by its name; entries are added as inputs are read.
    """
    reasons: dict[str, str] = {}
    token = _unpinned.set(reasons)
    try:
        yield reasons
    finally:
        _unpinned.reset(token)


def pinned_or(name: str, pinned: Callable[[], T], placeholder: Callable[[], T]) -> T:
    """The result of `pinned`; inside `allowed`, that of `placeholder` if the input `name` is unavailable.

    Raises UnavailableError outside of `allowed`.
    """
    reasons = _unpinned.get()
    if reasons is None:
        return pinned()
    if name not in reasons:  # else a request has failed before, and may have waited for its time limit
        try:
            return pinned()
        except UnavailableError as error:
            reasons[name] = str(error)
    return placeholder()


def is_unpinned(name: str) -> bool:
    """Whether a placeholder has taken the place of the input `name` in this plan."""
    return name in (_unpinned.get() or ())

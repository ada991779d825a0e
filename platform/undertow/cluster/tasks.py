"""Work in Ray tasks: results as they become ready, and the reasons of failures in words."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from undertow.cluster.worker_failures import TASKS, in_words
from undertow.errors import ConditionError, UserError

T = TypeVar("T")
Shared = TypeVar("Shared")
SECONDS_BETWEEN_CHECKS = 1.0
Failure = tuple[str, str]  # the reason in words, and a traceback where the cause may be a bug


def as_ready(waiting: Mapping[Any, T], check: Callable[[], object] = lambda: None) -> Iterator[tuple[T, Any]]:
    """(item, object ref) as each task ends, whatever its result; `waiting` maps object refs to items.

    `check` is called every second while none ends; it may raise.
    """
    import ray

    left = dict(waiting)
    while left:
        ready, _ = ray.wait(list(left), num_returns=1, timeout=SECONDS_BETWEEN_CHECKS)
        for reference in ready:
            yield left.pop(reference), reference
        if not ready:
            check()


def run_each(
    function: Callable[[T, Shared], object],
    shared: Shared,
    items: Sequence[T],
    *,
    cpus: float = 1,
    check: Callable[[], object] = lambda: None,
) -> Iterator[tuple[T, Failure | None]]:
    """Calls `function(item, shared)` in one Ray task per item, each on as many `cpus`.

    Yields each item when its task ends, with the reason if it failed. For `check` see `as_ready`.
    """
    import ray

    # By default Ray retries a task whose worker process died, not one that raised an error.
    task = ray.remote(num_cpus=cpus)(function)
    for item, ready in as_ready({task.remote(item, shared): item for item in items}, check):
        try:
            ray.get(ready)
            yield item, None
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, (UserError, ConditionError)):
                yield item, (str(error.cause), "")
            else:
                yield item, (in_words(error.cause, TASKS), str(error))
        except ray.exceptions.RayError as error:  # the worker process died
            yield item, (in_words(error, TASKS), str(error))

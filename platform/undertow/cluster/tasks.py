"""Work in Ray tasks: results as they become ready, and the reasons of failures in words."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from undertow.cluster.connection import cpu_count
from undertow.cluster.worker_failures import TASKS, in_words
from undertow.errors import ConditionError, UserError

T = TypeVar("T")
Shared = TypeVar("Shared")
SECONDS_BETWEEN_CHECKS = 1.0
RETRIES = 3  # of a task whose process died, as Ray's own for tasks
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
    check: Callable[[], object] = lambda: None,
) -> Iterator[tuple[T, Failure | None]]:
    """Calls `function(item, shared)` in one Ray task per item, each on one CPU.

    Yields each item when its task ends, with the reason if it failed. For `check` see `as_ready`.
    """
    import ray

    # By default Ray retries a task whose worker process died, not one that raised an error.
    task = ray.remote(num_cpus=1)(function)
    for item, ready in as_ready({task.remote(item, shared): item for item in items}, check):
        failure, _ = _failure(ready)
        yield item, failure


class TaskWorkers:
    """Processes that run one task after the other and stay up; another one starts when all are busy.

    For tasks that become ready one by one. Ray ends a process that was idle for a second, and the start of
    another takes longer than many tasks. The processes reserve no CPU, so that engines may hold all of them;
    there are at most as many as the cluster has CPUs. `run_each` may be called from several threads.
    """

    def __init__(self) -> None:
        self._count = 0  # processes, idle or not
        self._idle: list[Any] = []
        self._changed = threading.Condition()

    def run_each(
        self,
        function: Callable[[T, Shared], object],
        shared: Shared,
        items: Sequence[T],
        *,
        check: Callable[[], object] = lambda: None,
    ) -> Iterator[tuple[T, Failure | None]]:
        """As the function `run_each`, in these processes."""
        import ray

        left = [(item, RETRIES) for item in reversed(items)]
        running = dict[Any, tuple[T, int, Any]]()
        while left or running:
            while left and (worker := self._taken(wait=not running)) is not None:
                item, retries = left.pop()
                running[worker.call.remote(function, item, shared)] = item, retries, worker
            ready, _ = ray.wait(list(running), timeout=SECONDS_BETWEEN_CHECKS) if running else ([], [])
            for reference in ready:
                item, retries, worker = running.pop(reference)
                failure, is_alive = _failure(reference)
                self._put_back(worker, is_alive)
                if not is_alive and retries:
                    left.append((item, retries - 1))  # in another process
                else:
                    yield item, failure
            if not ready:
                check()

    def _taken(self, *, wait: bool) -> Any | None:
        """An idle or a new process; None if all are busy, after a second if `wait`."""
        most = max(1, cpu_count())  # a cluster that grows on demand may have none yet
        with self._changed:
            if wait and not self._idle and self._count >= most:
                self._changed.wait(SECONDS_BETWEEN_CHECKS)
            if self._idle:
                return self._idle.pop()
            if self._count >= most:
                return None
            self._count += 1
        return _started_worker()

    def _put_back(self, worker: Any, is_alive: bool) -> None:
        """Makes a process available to other tasks, or forgets it if it ended.

        Idle processes are then forgotten too, and end: a lost node takes many of them along, and each of
        these would cost the next task one of its retries.
        """
        with self._changed:
            if is_alive:
                self._idle.append(worker)
            else:
                self._count -= 1 + len(self._idle)
                self._idle.clear()
            self._changed.notify()


class _TaskWorker:
    """A process of `TaskWorkers`."""

    def call(self, function: Callable[[T, Shared], object], item: T, shared: Shared) -> None:
        function(item, shared)


def _started_worker() -> Any:
    import ray

    return ray.remote(_TaskWorker).options(num_cpus=0).remote()


def _failure(ready: Any) -> tuple[Failure | None, bool]:
    """Why a task failed that has ended, None if it did not; and whether its process is still up."""
    import ray

    try:
        ray.get(ready)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, (UserError, ConditionError)):
            return (str(error.cause), ""), True
        return (in_words(error.cause, TASKS), str(error)), True
    except ray.exceptions.RayError as error:  # the process died
        return (in_words(error, TASKS), str(error)), False
    return None, True

"""Reports when a sweep waits because too few nodes are up, and when enough have joined.

Ray queues work that no node can hold, without an error: nodes may be added. The loss of spot nodes for good
would otherwise look like slow progress.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from undertow.cluster.background import repeating
from undertow.cluster.connection import places_up
from undertow.planning.resources import Machine

SECONDS_BETWEEN_LOOKS = 20.0
PATIENCE = 120.0  # seconds; a lost node is often replaced


@dataclass
class NodeWatch:
    """Compares the GPUs, or CPUs, that are up with those that the sweep needs at once.

    Attributes:
        needed: GPUs or CPUs of the largest worker group or engine.
        unit: "GPUs" or "CPUs".
        flag: the option of `jobs/sweep.py` that sets `needed`.
        report: called with one line when the sweep has waited for `PATIENCE`, and one when it continues.
    """

    needed: float
    unit: str
    flag: str
    report: Callable[[str], object]
    _since: float | None = None
    _reported: bool = False

    def look(self, up: float, now: float) -> None:
        """Takes the number of GPUs or CPUs that are up at a time in seconds."""
        if up >= self.needed:
            if self._reported:
                self.report(f"nodes have joined: {up:g} {self.unit} are up, and the sweep continues")
            self._since, self._reported = None, False
            return
        self._since = now if self._since is None else self._since
        if now - self._since >= PATIENCE and not self._reported:
            self._reported = True
            fewer = f" and run it again with a smaller {self.flag}" if self.needed > 1 else ""
            self.report(
                f"waiting for nodes: {up:g} of the {self.needed:g} {self.unit} that the sweep needs at once "
                "are up; it continues when the others have joined. If they will not, end it with Ctrl-C"
                f"{fewer}: finished work is kept"
            )


@contextmanager
def watched_nodes(machine: Machine, trains: bool, report: Callable[[str], object]) -> Iterator[None]:
    """Watches the nodes of a cluster while the block runs. A Ray that the sweep started is not watched.

    Args:
        trains: whether worker groups train models.
    """
    if not os.environ.get("RAY_ADDRESS"):
        yield
        return
    unit, flag, needed = "GPUs" if machine.gpus else "CPUs", "--workers", float(machine.workers)
    if not trains or machine.gpus_per_engine > needed:
        flag, needed = "--gpus-per-engine", machine.gpus_per_engine or 1.0
    watch = NodeWatch(needed, unit, flag, report)

    def look() -> None:
        with suppress(Exception):  # the head node is unreachable; if that lasts, the sweep ends itself
            watch.look(places_up(machine), time.monotonic())

    with repeating(SECONDS_BETWEEN_LOOKS, look):
        yield

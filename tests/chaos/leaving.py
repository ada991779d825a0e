"""A node leaves in the middle of each wave of one sweep, and another comes: `python -m tests.chaos.leaving`.

The sweep runs on three nodes, of which the head has no CPU: what a wave does is done on the two others. In
each wave the one that does most of it is killed by signal 9, its raylet first, and a little later a new node
joins. The sweep must end by itself, with exit code 0 and without a second run; no condition may count as
failed, and every artifact must have an undisturbed sweep's bytes.

Prints a line a wave. Exit code 1 where anything did not hold.
"""

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import tyro
from rich.console import Console

from tests.chaos import checks, processes
from tests.chaos.sweeps import Nodes, Sweep, undisturbed
from tests.chaos.watching import watch

# Who works for a wave, as Ray names its processes: a wave is in its middle as long as they are at work. Of
# the two waves that train, one loses what drives a training, the other what trains.
WORKERS = {
    "references": ("ray::make_reference",),
    "teachers": ("ray::TrainController",),
    "datasets": processes.TITLES["engine"],
    "students": processes.TITLES["worker"],
    "evaluations": processes.TITLES["engine"],
}
ANY = tuple(title for fault in ("trial", "worker", "engine") for title in processes.TITLES[fault])
POLL = 0.05
MIDDLE = {"references": 0.0}  # seconds from a worker's start to its node's end: a nano model is there in one
USUALLY = 1.5
AWAY = 3.0  # seconds until another node comes
PATIENCE = 60.0  # seconds for processes to end by themselves


@dataclass(frozen=True)
class Arguments:
    """A node lost in each wave of a sweep."""

    undisturbed: Path | None = None
    """The storage of an earlier undisturbed sweep of the harness's study; else one is made first."""
    waves: tuple[str, ...] = tuple(WORKERS)
    """In which waves a node is lost."""


@dataclass(frozen=True)
class Loss:
    """A node lost in a wave, with what it was doing; nothing where the wave ended before."""

    wave: str
    at: float = 0.0
    lost: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.lost:
            return f"{self.wave}: ended before a node could be lost"
        return f"{self.wave}: a node lost at {self.at:.1f} s, with {', '.join(self.lost)}"


def main(arguments: Arguments) -> int:
    """0 where everything held."""
    return watch("ul-", lambda folder, console: _problems(arguments, folder, console))


def _problems(arguments: Arguments, folder: Path, console: Console) -> Iterator[str]:
    """Runs the sweep and tells what did not hold."""
    reference, duration = undisturbed(arguments.undisturbed or folder / "undisturbed")
    console.print(f"undisturbed on one machine: {duration:.0f} s")
    nodes, storage = Nodes(folder, head_cpus=0), folder / "storage"
    nodes.complete()
    try:
        sweep = Sweep(storage, {"RAY_ADDRESS": nodes.address})
        losses = []
        for wave in arguments.waves:
            losses.append(_lose(wave, sweep, nodes))
            console.print(str(losses[-1]))
        ended = sweep.end()
        left = processes.end_those_left(PATIENCE, [nodes.process.pid])
    finally:
        nodes.end()
    console.print(f"exit {ended.code} after {ended.seconds:.0f} s")
    if ended.code != 0:
        yield f"exit {ended.code}: {ended.output[-3000:]}"
    yield from (str(loss) for loss in losses if not loss.lost)
    yield from (f"outlived the sweep: {one.command} ({one.pid})" for one in left)
    yield from ["a traceback was printed"] if "Traceback" in ended.output else []
    yield from _failed(storage)
    yield from checks.half_written(storage)
    yield from checks.different(checks.made(reference), checks.made(storage))


def _lose(wave: str, sweep: Sweep, nodes: Nodes) -> Loss:
    """Ends the node that works most for a wave, as soon as it does, and adds another."""
    while sweep.is_running and not _said(sweep, f"{wave}: (done|stopped)"):
        time.sleep(POLL)
        if not (_said(sweep, rf"{wave}: \d") and _busiest(wave, nodes)):
            continue
        time.sleep(MIDDLE.get(wave, USUALLY))
        busiest = _busiest(wave, nodes)
        if busiest is None or _said(sweep, f"{wave}: (done|stopped)"):
            continue
        raylet, lost = busiest
        at = time.monotonic() - sweep.began
        # A worker whose raylet is gone ends when it finds init to be its parent; here that is this process.
        processes.kill_all(processes.below(raylet.pid))
        time.sleep(AWAY)
        nodes.complete()
        return Loss(wave, at, lost)
    return Loss(wave)


def _busiest(wave: str, nodes: Nodes) -> tuple[psutil.Process, tuple[str, ...]] | None:
    """The raylet with the most processes of a wave below it, and their names; None where none has any."""
    found: list[tuple[int, psutil.Process, tuple[str, ...]]] = []
    for raylet in nodes.others():
        its = processes.below(raylet.pid)
        if any(processes.is_named(one, WORKERS[wave]) for one in its):
            besides = (*WORKERS[wave], *ANY)
            names = Counter(processes.title(one) for one in its if processes.is_named(one, besides))
            found.append((sum(names.values()), raylet, tuple(f"{n} × {name}" for name, n in names.items())))
    if not found:
        return None
    _, raylet, names_found = max(found, key=lambda one: one[0])
    return raylet, names_found


def _said(sweep: Sweep, pattern: str) -> bool:
    return re.search(rf"^{pattern}", sweep.log.read_text(), re.M) is not None


def _failed(storage: Path) -> Iterator[str]:
    """Failures in the journals; there may be one journal, since one sweep was to be enough."""
    journals = sorted(storage.glob("sweeps/*/*/events.json"))
    if len(journals) != 1:
        yield f"{len(journals)} sweeps ran"
    for journal in journals:
        for event in json.loads(journal.read_text()):
            if event["event"] == "failed":
                yield f"{event['kind']}/{event['key']} failed: {event['reason']}"


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Arguments)))

"""Replaces a node in the middle of each wave of one sweep: `python -m tests.chaos.leaving`.

The sweep runs on three nodes. The head node has no CPU, so the other two do the work. In each wave the
busier one is killed by SIGKILL, its raylet first, and a few seconds later a new node joins. The sweep must
end by itself with exit code 0 and without a second run, no condition may fail, and every artifact must have
the bytes that another sweep on one machine produces: an undisturbed one, or with `--killed` one that was
killed and continued.

Prints one line per wave. The exit code is 1 if a check failed.
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

from tests.chaos import checks, continued, processes
from tests.chaos.sweeps import Nodes, Sweep, undisturbed
from tests.chaos.watching import watch

# The processes of a wave by their Ray names; a wave is in its middle while they run. Of the two training
# waves, one loses a trial, which controls a training, and the other a worker.
WORKERS = {
    "references": ("ray::make_reference",),
    "teachers": processes.TITLES["trial"],
    "datasets": processes.TITLES["engine"],
    "students": processes.TITLES["worker"],
    "evaluations": processes.TITLES["engine"],
}
ANY = tuple(title for fault in ("trial", "worker", "engine") for title in processes.TITLES[fault])
POLL = 0.05
# Seconds from a worker's start to its node's end. A nano model is made within one second.
DELAYS = {"references": 0.0}
DEFAULT_DELAY = 1.5
REPLACED_AFTER = 3.0  # seconds
PATIENCE = 60.0  # seconds for processes to end by themselves


@dataclass(frozen=True)
class Arguments:
    """Replaces a node in each wave of a sweep."""

    undisturbed: Path | None = None
    """Storage of an earlier undisturbed sweep of the same study. Default: run one first."""
    killed: bool = False
    """Compare with a sweep that is killed once and continued, instead of an undisturbed one."""
    waves: tuple[str, ...] = tuple(WORKERS)
    """The waves in which a node is lost."""


@dataclass(frozen=True)
class Loss:
    """The loss of a node in a wave, with its processes; `lost` is empty if the wave ended before."""

    wave: str
    at: float = 0.0
    lost: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.lost:
            return f"{self.wave}: ended before a node could be lost"
        return f"{self.wave}: a node lost at {self.at:.1f} s, with {', '.join(self.lost)}"


def main(arguments: Arguments) -> int:
    """Runs the sweep; returns 0 if all checks passed, else 1."""
    return watch("ul-", lambda folder, console: _problems(arguments, folder, console))


def _problems(arguments: Arguments, folder: Path, console: Console) -> Iterator[str]:
    """Runs the sweep and yields the failed checks."""
    if arguments.killed:
        reference = folder / "killed"
        yield from continued.make(reference)
        console.print("killed while it trained students, and continued")
    else:
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
        left = processes.end_remaining(PATIENCE, [nodes.process.pid])
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
    """Kills the node with the most processes of a wave, as soon as it has any, and adds another node."""
    while sweep.is_running and not _has_printed(sweep, f"{wave}: (done|stopped)"):
        time.sleep(POLL)
        if not (_has_printed(sweep, rf"{wave}: \d") and _busiest(wave, nodes)):
            continue
        time.sleep(DELAYS.get(wave, DEFAULT_DELAY))
        busiest = _busiest(wave, nodes)
        if busiest is None or _has_printed(sweep, f"{wave}: (done|stopped)"):
            continue
        raylet, lost = busiest
        at = time.monotonic() - sweep.began
        # A worker ends when init has become its parent. Here orphans become children of this process
        # instead, so the workers of the killed raylet are killed too.
        processes.kill_all(processes.below(raylet.pid))
        time.sleep(REPLACED_AFTER)
        nodes.complete()
        return Loss(wave, at, lost)
    return Loss(wave)


def _busiest(wave: str, nodes: Nodes) -> tuple[psutil.Process, tuple[str, ...]] | None:
    """The raylet with the most processes of a wave, and their names; None if no raylet has any."""
    found: list[tuple[int, psutil.Process, tuple[str, ...]]] = []
    for raylet in nodes.others():
        children = processes.below(raylet.pid)
        if any(processes.is_named(child, WORKERS[wave]) for child in children):
            titles = (*WORKERS[wave], *ANY)
            names = Counter(processes.title(child) for child in children if processes.is_named(child, titles))
            found.append((sum(names.values()), raylet, tuple(f"{n} × {name}" for name, n in names.items())))
    if not found:
        return None
    _, raylet, names_found = max(found, key=lambda one: one[0])
    return raylet, names_found


def _has_printed(sweep: Sweep, pattern: str) -> bool:
    return re.search(rf"^{pattern}", sweep.log.read_text(), re.M) is not None


def _failed(storage: Path) -> Iterator[str]:
    """Failures in the event log, and more than one event log: the sweep had to end without a second run."""
    event_logs = sorted(storage.glob("sweeps/*/*/events.json"))
    if len(event_logs) != 1:
        yield f"{len(event_logs)} sweeps ran"
    for event_log in event_logs:
        for event in json.loads(event_log.read_text()):
            if event["event"] == "failed":
                yield f"{event['kind']}/{event['key']} failed: {event['reason']}"


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Arguments)))

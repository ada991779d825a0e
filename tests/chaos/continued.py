"""A sweep whose driver is killed while it trains students, and the sweep that continues it."""

import time
from collections.abc import Iterator
from pathlib import Path

from tests.chaos import checks, processes
from tests.chaos.sweeps import ONE_AT_A_TIME, Sweep

POLL = 0.05
DELAY = 1.5  # seconds from the start of a worker to the kill
PATIENCE = 60.0  # seconds for processes to end by themselves


def make(storage: Path) -> Iterator[str]:
    """Runs both sweeps on one storage and yields the failed checks."""
    sweep = Sweep(storage, {}, *ONE_AT_A_TIME)
    while sweep.is_running and not _trains_students(sweep):
        time.sleep(POLL)
    time.sleep(DELAY)
    if not sweep.is_running:
        yield f"the sweep ended before it was killed: {sweep.end().output[-2000:]}"
        return
    sweep.process.kill()
    sweep.end()
    processes.end_remaining(PATIENCE)
    yield from checks.half_written(storage)
    before = checks.made(storage)
    ended = Sweep(storage, {}, *ONE_AT_A_TIME).end()
    processes.end_remaining(PATIENCE)
    if ended.code != 0:
        yield f"the sweep that continued ended with {ended.code}: {ended.output[-2000:]}"
    yield from checks.half_written(storage)
    after = checks.made(storage)
    yield from checks.made_again(before, after)
    if not any(place.kind == "student" for place in after.keys() - before.keys()):
        yield "all students were made before the kill"


def _trains_students(sweep: Sweep) -> bool:
    is_printed = "\nstudents: " in sweep.log.read_text()
    return is_printed and bool(processes.victims("worker", processes.running()))

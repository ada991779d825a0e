"""The processes of a sweep: which there are, which one to kill, and what outlives the sweep.

This process makes itself the reaper of all that it starts: what a killed parent leaves becomes a child of it
and of nobody else, so that everything found here was started here, and nothing else is ever touched.
"""

import ctypes
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

PR_SET_CHILD_SUBREAPER = 36

# What a process calls itself, by the fault that kills it. Ray names its workers after what they run.
TITLES = {
    "driver": ("sweep.py",),
    "engine": ("ray::MapWorker", "ray::MapBatches", "EngineActor"),
    "worker": ("ray::RayTrainWorker",),
    "trial": ("ray::ImplicitFunc", "ray::_trial", "ray::TrainController"),
    "raylet": ("raylet",),
    "interrupt": ("sweep.py",),
    "interrupt twice": ("sweep.py",),
}
SIGNALS = {"interrupt": (signal.SIGINT,), "interrupt twice": (signal.SIGINT, signal.SIGINT)}
APART = 0.3  # seconds between two signals


@dataclass(frozen=True)
class Left:
    """A process that outlived its sweep."""

    pid: int
    command: str
    seconds: float


def adopt() -> None:
    """Makes this process the parent of whatever its descendants leave."""
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError("prctl(PR_SET_CHILD_SUBREAPER) was refused: this needs Linux")


def running(apart: Sequence[int] = ()) -> list[psutil.Process]:
    """Every process that descends from this one, but for those (and theirs) that are `apart`."""
    _reap()
    others = {process.pid for pid in apart for process in below(pid)}
    ours = below(os.getpid())[1:]
    return [process for process in ours if process.pid not in others and _command(process)]


def below(pid: int) -> list[psutil.Process]:
    """A process and all that descend from it, the first first; none where it has ended."""
    try:
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def victims(fault: str, among: Sequence[psutil.Process]) -> list[psutil.Process]:
    """The processes that a fault may kill."""
    return [process for process in among if is_named(process, TITLES[fault])]


def kill(process: psutil.Process, fault: str = "") -> str:
    """Kills with signal 9, or interrupts; what it was, "" where it ended by itself just before."""
    command = _command(process)
    try:
        for number in SIGNALS.get(fault, (signal.SIGKILL,)):
            process.send_signal(number)
            time.sleep(APART)
    except psutil.NoSuchProcess:
        return ""
    return command[:60]


def kill_all(these: Sequence[psutil.Process]) -> None:
    """Kills at once, in order."""
    for process in these:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def end_those_left(patience: float, apart: Sequence[int] = ()) -> list[Left]:
    """Waits for all to end by themselves; what did not is ended here, one by one, and named."""
    deadline = time.monotonic() + patience
    while (left := running(apart)) and time.monotonic() < deadline:
        time.sleep(0.5)
    named = []
    for process in left:
        with suppress(psutil.NoSuchProcess):
            named.append(Left(process.pid, _command(process)[:100], time.time() - process.create_time()))
            process.kill()
    _reap()
    return named


def is_named(process: psutil.Process, titles: Sequence[str]) -> bool:
    """Whether a process calls itself by one of the titles."""
    command = _command(process)
    if titles == TITLES["raylet"]:
        return Path(command.split(" ")[0]).name == "raylet"
    return any(title in command for title in titles)


def title(process: psutil.Process) -> str:
    """The first word of a command line: of a Ray worker, what it runs."""
    return _command(process).split(" ")[0]


def _command(process: psutil.Process) -> str:
    """The command line or title; "" of one that has ended."""
    try:
        ended = process.status() == psutil.STATUS_ZOMBIE
        return "" if ended else " ".join(" ".join(process.cmdline()).split())  # titles are padded
    except psutil.NoSuchProcess:
        return ""


def _reap() -> None:
    """Buries adopted children that ended; those of `subprocess` are left to it."""
    for process in psutil.Process().children():
        with suppress(psutil.NoSuchProcess, ChildProcessError):
            if process.status() == psutil.STATUS_ZOMBIE and process.pid not in started:
                os.waitpid(process.pid, os.WNOHANG)


started: set[int] = set()  # children that `subprocess` waits for

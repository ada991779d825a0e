"""The processes of a sweep: listing them, killing one, and finding those that outlive the sweep.

This process becomes the subreaper of its descendants: the children of a killed process become its
children. All processes found here were therefore started here, and no other process is ever killed.
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

# Command-line titles of the processes that a fault kills. Ray names its workers after what they run.
TITLES = {
    "driver": ("sweep.py",),
    "engine": ("ray::MapWorker", "ray::MapBatches", "EngineActor"),
    "worker": ("ray::RayTrainWorker",),
    "trial": ("ray::ImplicitFunc", "ray::_trial"),
    "raylet": ("raylet",),
    "interrupt": ("sweep.py",),
    "interrupt twice": ("sweep.py",),
}
SIGNALS = {"interrupt": (signal.SIGINT,), "interrupt twice": (signal.SIGINT, signal.SIGINT)}
SIGNAL_INTERVAL = 0.3  # seconds


@dataclass(frozen=True)
class Left:
    """A process that outlived its sweep, and its age in seconds."""

    pid: int
    command: str
    seconds: float


def adopt() -> None:
    """Makes this process the parent of its descendants' orphans."""
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError("prctl(PR_SET_CHILD_SUBREAPER) was refused: this needs Linux")


def running(excluded: Sequence[int] = ()) -> list[psutil.Process]:
    """All descendants of this process, except the `excluded` ones and their descendants."""
    _reap()
    others = {process.pid for pid in excluded for process in below(pid)}
    ours = below(os.getpid())[1:]
    return [process for process in ours if process.pid not in others and _command(process)]


def below(pid: int) -> list[psutil.Process]:
    """A process and its descendants, itself first; empty if it has ended."""
    try:
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def victims(fault: str, among: Sequence[psutil.Process]) -> list[psutil.Process]:
    """The processes that a fault can kill."""
    return [process for process in among if is_named(process, TITLES[fault])]


def kill(process: psutil.Process, fault: str = "") -> str:
    """Kills a process by SIGKILL, or interrupts it; returns its command, or "" if it has just ended."""
    command = _command(process)
    try:
        for number in SIGNALS.get(fault, (signal.SIGKILL,)):
            process.send_signal(number)
            time.sleep(SIGNAL_INTERVAL)
    except psutil.NoSuchProcess:
        return ""
    return command[:60]


def kill_all(these: Sequence[psutil.Process]) -> None:
    """Kills processes in the given order, without waiting."""
    for process in these:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def end_remaining(patience: float, excluded: Sequence[int] = ()) -> list[Left]:
    """Waits up to `patience` seconds for all descendants to end; kills and returns the others."""
    deadline = time.monotonic() + patience
    while (left := running(excluded)) and time.monotonic() < deadline:
        time.sleep(0.5)
    killed = []
    for process in left:
        with suppress(psutil.NoSuchProcess):
            killed.append(Left(process.pid, _command(process)[:100], time.time() - process.create_time()))
            process.kill()
    _reap()
    return killed


def is_named(process: psutil.Process, titles: Sequence[str]) -> bool:
    """Whether a process has one of the titles in its command line."""
    command = _command(process)
    if titles == TITLES["raylet"]:
        return Path(command.split(" ")[0]).name == "raylet"
    return any(title in command for title in titles)


def title(process: psutil.Process) -> str:
    """The first word of the command line; for a Ray worker, what it runs."""
    return _command(process).split(" ")[0]


def _command(process: psutil.Process) -> str:
    """The command line or title; "" if the process has ended."""
    try:
        ended = process.status() == psutil.STATUS_ZOMBIE
        return "" if ended else " ".join(" ".join(process.cmdline()).split())  # titles are padded
    except psutil.NoSuchProcess:
        return ""


def _reap() -> None:
    """Reaps adopted children that have ended; `subprocess` reaps its own."""
    for process in psutil.Process().children():
        with suppress(psutil.NoSuchProcess, ChildProcessError):
            if process.status() == psutil.STATUS_ZOMBIE and process.pid not in started:
                os.waitpid(process.pid, os.WNOHANG)


started: set[int] = set()  # children that `subprocess` waits for

"""One story: a study on its own storage whose sweeps are killed repeatedly, until a last one runs
undisturbed.

A sweep that survives a kill is disturbed again. After each sweep, no artifact may be incomplete, and no
artifact that was complete before may have been made again. At the end, the exit code must be 0, and the
artifacts must have the bytes of an undisturbed sweep. The instants follow from the story's seed and from
the duration of an undisturbed sweep, so a replay with the same seed is similar but not identical.
"""

import random
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.chaos import checks, processes
from tests.chaos.checks import Made
from tests.chaos.sweeps import Ended, Nodes, Sweep
from tests.tracking_server import Server
from undertow.storage.manifest import Address

POLL = 0.05
LONGEST_DELAY = 2.0  # seconds between the appearance of a victim and its kill
PATIENCE = 60.0  # seconds for processes to end by themselves
END = "the end"
INTERRUPTS = ("interrupt", "interrupt twice")
FATAL = ("driver", *INTERRUPTS)  # faults that no sweep survives
# The longest time from a sweep's start, or from a kill, to the next kill, as a share of an undisturbed sweep.
SPREAD = 0.6
STOPPED = 130  # exit code


@dataclass
class Kill:
    """One kill and its consequences; the last of a story stands for the undisturbed sweep.

    Attributes:
        victim: the command of the killed process; "" if the sweep ended before there was one.
        at: seconds from the start of the sweep to the kill.
        code, seconds: exit code and duration of the sweep.
    """

    fault: str
    victim: str = ""
    at: float = 0.0
    code: int | None = None
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    left: list[processes.Left] = field(default_factory=list)

    def __str__(self) -> str:
        victim = f"{self.victim} at {self.at:.1f} s" if self.victim else "nothing killed"
        orphans = "".join(f"; outlived by {left.command} ({left.pid})" for left in self.left)
        problems = "".join(f"; PROBLEM: {problem}" for problem in self.problems)
        return f"{self.fault}: {victim}, exit {self.code} after {self.seconds:.0f} s{orphans}{problems}"


@dataclass(frozen=True)
class Surroundings:
    """The cluster or the MLflow server of a story's sweeps, in place of local ones."""

    nodes: Nodes | None = None
    server: Server | None = None

    @property
    def environment(self) -> dict[str, str]:
        address = {"RAY_ADDRESS": self.nodes.address} if self.nodes else {}
        return address | ({"MLFLOW_TRACKING_URI": self.server.url} if self.server else {})

    @property
    def pids(self) -> list[int]:
        return [one.process.pid for one in (self.nodes, self.server) if one and one.process]

    def restore(self) -> None:
        """Replaces lost nodes, and starts the server again if it was killed."""
        if self.nodes:
            self.nodes.complete()
        if self.server and self.server.process is None:
            processes.started.add(self.server.start())


@contextmanager
def surroundings(faults: Sequence[str], folder: Path) -> Iterator[Surroundings]:
    """Three nodes if one is to be killed, a server if it is to be killed, else neither."""
    nodes = Nodes(folder) if "raylet" in faults else None
    server = Server(folder) if "mlflow" in faults else None
    try:
        around = Surroundings(nodes, server)
        around.restore()
        yield around
    finally:
        if nodes:
            nodes.end()
        if server:
            server.kill()


@dataclass(frozen=True)
class Story:
    """A story in `folder`, with the artifacts and the duration in seconds of an undisturbed sweep."""

    folder: Path
    seed: str
    undisturbed: Mapping[Address, Made]
    duration: float

    def run(self, faults: Sequence[str]) -> Iterator[Kill]:
        """Yields the kills in order, then the undisturbed end. Kills stop once the study is complete."""
        rng, left = random.Random(self.seed), list(faults)
        with surroundings(faults, self.folder) as around:
            while left:
                kills = self._disturbed(left, rng, around)
                yield from kills
                around.restore()
                if kills[-1].code == 0:
                    break
            ended = Sweep(self.folder / "storage", around.environment).end()
            end = Kill(END, code=ended.code, seconds=ended.seconds)
            end.problems = [] if ended.code == 0 else [f"exit {ended.code}", ended.output[-2000:]]
            end.problems += self._problems(end, ended, {})
            end.problems += checks.different(self.undisturbed, checks.made(self.folder / "storage"))
            if around.server:
                end.problems += checks.missing_runs(around.server.url, self.undisturbed)
            end.left = processes.end_remaining(PATIENCE, around.pids)
            yield end

    def _disturbed(self, left: list[str], rng: random.Random, around: Surroundings) -> list[Kill]:
        """One sweep and its kills, which are removed from `left`. The last kill gets the failed checks."""
        before = checks.made(self.folder / "storage")
        sweep = Sweep(self.folder / "storage", around.environment)
        kills: list[Kill] = []
        while left and (sweep.is_running or not kills):
            instant = time.monotonic() + rng.uniform(0, SPREAD * self.duration)
            kill = self._kill(left[0], instant, rng, around, sweep)
            if kill.victim or not kills:
                kills.append(kill)
                left.pop(0)
        ended = sweep.end()
        for kill in kills:
            kill.code, kill.seconds = ended.code, ended.seconds
        kills[-1].left = processes.end_remaining(PATIENCE, around.pids)
        kills[-1].problems = self._problems(kills[-1], ended, before)
        return kills

    def _kill(
        self, fault: str, instant: float, rng: random.Random, around: Surroundings, sweep: Sweep
    ) -> Kill:
        """Kills a process of a running sweep as soon as there is a victim after `instant`."""
        kill = Kill(fault)
        while sweep.is_running and time.monotonic() < instant:
            time.sleep(POLL)
        around.restore()
        while sweep.is_running and not kill.victim:
            time.sleep(POLL)
            if self._found(fault, around):
                time.sleep(rng.uniform(0, LONGEST_DELAY))
                kill.at = time.monotonic() - sweep.began
                kill.victim = self._strike(fault, rng, around)
        if kill.victim and fault in FATAL:
            sweep.end()
        return kill

    def _found(self, fault: str, around: Surroundings) -> list[psutil.Process]:
        if fault == "raylet":
            return around.nodes.others() if around.nodes else []
        if fault == "mlflow":
            return (
                processes.below(around.server.process.pid) if around.server and around.server.process else []
            )
        return processes.victims(fault, processes.running())

    def _strike(self, fault: str, rng: random.Random, around: Surroundings) -> str:
        """Kills one of the candidates; returns its command, or "" if all have ended meanwhile."""
        if fault == "mlflow" and around.server:
            around.server.kill()
            return "mlflow server"
        found = self._found(fault, around)
        return processes.kill(rng.choice(found), fault) if found else ""

    def _problems(self, kill: Kill, ended: Ended, before: Mapping[Address, Made]) -> list[str]:
        """The checks that fail after a sweep has ended in any way."""
        storage = self.folder / "storage"
        problems = ["the sweep hung"] if ended.code is None else []
        if kill.victim and kill.fault in INTERRUPTS:
            leaving = ended.code == -signal.SIGINT  # the signal arrived while Python was shutting down
            stopped = (
                leaving or ended.code == STOPPED
            ) and "run the same command again to continue" in ended.output
            done = leaving and "Report: " in ended.output
            problems += [] if stopped or done else [f"exit {ended.code}: {ended.output[-500:]}"]
        problems += [f"outlived the sweep: {left.command}" for left in kill.left if kill.fault in INTERRUPTS]
        problems += ["a traceback was printed"] if "Traceback" in ended.output else []
        return problems + checks.half_written(storage) + checks.made_again(before, checks.made(storage))

"""One story: a study on a storage of its own, killed again and again, until a last run ends undisturbed.

A sweep that goes on after a kill is struck again. After each sweep: nothing on the storage is half-written,
and nothing that was finished before is another. At the end: exit code 0, and the bytes of an undisturbed
sweep. Instants follow from the story's seed and from how long an undisturbed sweep takes here: a replay with
the same seed comes close, no more.
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
HESITATION = 2.0  # seconds at most between a victim's appearance and its end
PATIENCE = 60.0  # seconds for processes to end by themselves
END = "the end"
INTERRUPTS = ("interrupt", "interrupt twice")
ENDS_IT = ("driver", *INTERRUPTS)  # a fault that no sweep survives
SPREAD = 0.6  # of an undisturbed sweep's seconds: the longest time from a sweep's start, or a kill, to a kill
STOPPED = 130


@dataclass
class Kill:
    """One kill and what followed; the last of a story is the undisturbed end."""

    fault: str
    victim: str = ""  # "": the sweep ended before there was one
    at: float = 0.0
    code: int | None = None
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    left: list[processes.Left] = field(default_factory=list)

    def __str__(self) -> str:
        what = f"{self.victim} at {self.at:.1f} s" if self.victim else "nothing killed"
        orphans = "".join(f"; outlived it: {left.command} ({left.pid})" for left in self.left)
        problems = "".join(f"; PROBLEM: {problem}" for problem in self.problems)
        return f"{self.fault}: {what}, exit {self.code} after {self.seconds:.0f} s{orphans}{problems}"


@dataclass(frozen=True)
class Surroundings:
    """What a story's sweeps run on, beside a Ray and a database of their own."""

    nodes: Nodes | None = None
    server: Server | None = None

    @property
    def environment(self) -> dict[str, str]:
        address = {"RAY_ADDRESS": self.nodes.address} if self.nodes else {}
        return address | ({"MLFLOW_TRACKING_URI": self.server.url} if self.server else {})

    @property
    def pids(self) -> list[int]:
        return [one.process.pid for one in (self.nodes, self.server) if one and one.process]

    def mend(self) -> None:
        """The machine that was lost comes back, and so does the server."""
        if self.nodes:
            self.nodes.complete()
        if self.server and self.server.process is None:
            processes.started.add(self.server.start())


@contextmanager
def surroundings(faults: Sequence[str], folder: Path) -> Iterator[Surroundings]:
    """Three nodes where one is to be killed, a server where that is, else nothing."""
    nodes = Nodes(folder) if "raylet" in faults else None
    server = Server(folder) if "mlflow" in faults else None
    try:
        around = Surroundings(nodes, server)
        around.mend()
        yield around
    finally:
        if nodes:
            nodes.end()
        if server:
            server.kill()


@dataclass(frozen=True)
class Story:
    """A storage in `folder`, and what an undisturbed sweep made in how many seconds."""

    folder: Path
    seed: str
    undisturbed: Mapping[Address, Made]
    duration: float

    def told(self, faults: Sequence[str]) -> Iterator[Kill]:
        """The kills, in order, and the end; it stops killing when the study is complete."""
        rng, left = random.Random(self.seed), list(faults)
        with surroundings(faults, self.folder) as around:
            while left:
                kills = self._disturbed(left, rng, around)
                yield from kills
                around.mend()
                if kills[-1].code == 0:
                    break
            ended = Sweep(self.folder / "storage", around.environment).end()
            end = Kill(END, code=ended.code, seconds=ended.seconds)
            end.problems = [] if ended.code == 0 else [f"exit {ended.code}", ended.output[-2000:]]
            end.problems += self._wrong(end, ended, {})
            end.problems += checks.different(self.undisturbed, checks.made(self.folder / "storage"))
            if around.server:
                end.problems += checks.untold(around.server.url, self.undisturbed)
            end.left = processes.end_those_left(PATIENCE, around.pids)
            yield end

    def _disturbed(self, left: list[str], rng: random.Random, around: Surroundings) -> list[Kill]:
        """One sweep and its kills, which are taken from what is `left`; what did not hold is at the last."""
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
        kills[-1].left = processes.end_those_left(PATIENCE, around.pids)
        kills[-1].problems = self._wrong(kills[-1], ended, before)
        return kills

    def _kill(
        self, fault: str, instant: float, rng: random.Random, around: Surroundings, sweep: Sweep
    ) -> Kill:
        """A kill of a running sweep, from an instant on as soon as there is a victim."""
        kill = Kill(fault)
        while sweep.is_running and time.monotonic() < instant:
            time.sleep(POLL)
        around.mend()
        while sweep.is_running and not kill.victim:
            time.sleep(POLL)
            if self._found(fault, around):
                time.sleep(rng.uniform(0, HESITATION))
                kill.at = time.monotonic() - sweep.began
                kill.victim = self._strike(fault, rng, around)
        if kill.victim and fault in ENDS_IT:
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
        """Kills one of those that can be; "" where they have ended meanwhile."""
        if fault == "mlflow" and around.server:
            around.server.kill()
            return "mlflow server"
        found = self._found(fault, around)
        return processes.kill(rng.choice(found), fault) if found else ""

    def _wrong(self, kill: Kill, ended: Ended, before: Mapping[Address, Made]) -> list[str]:
        """What should not be, after a sweep that ended in any way."""
        storage = self.folder / "storage"
        problems = ["it hung"] if ended.code is None else []
        if kill.victim and kill.fault in INTERRUPTS:
            leaving = ended.code == -signal.SIGINT  # it came when Python itself was at its end
            stopped = (leaving or ended.code == STOPPED) and "goes on from there" in ended.output
            done = leaving and "Report: " in ended.output
            problems += [] if stopped or done else [f"exit {ended.code}: {ended.output[-500:]}"]
        problems += [f"outlived it: {left.command}" for left in kill.left if kill.fault in INTERRUPTS]
        problems += ["a traceback was printed"] if "Traceback" in ended.output else []
        return problems + checks.half_written(storage) + checks.made_again(before, checks.made(storage))

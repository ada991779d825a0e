"""Sweeps in child processes, and a Ray cluster of several nodes on this machine for them to run on."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.chaos import processes

ROOT = Path(__file__).parents[2]
STUDY = Path(__file__).parent / "study.py"
# Ray declares a node lost after 5 failed health checks, by default after 15 seconds.
FAST_HEALTH_CHECKS = {"RAY_health_check_period_ms": "1000"}
ONE_AT_A_TIME = ("--engines", "1", "--trainings", "1")
LONGEST = 1800.0  # seconds; a sweep that takes longer hangs


@dataclass(frozen=True)
class Ended:
    """The end of a sweep; `code` is None if it hung and was killed."""

    code: int | None
    output: str
    seconds: float


class Sweep:
    """A sweep in a child process that writes to `storage`."""

    def __init__(
        self, storage: Path, environment: Mapping[str, str], *arguments: str, study: Path = STUDY
    ) -> None:
        command = [sys.executable, str(ROOT / "jobs" / "sweep.py"), "--study", f"{study}:study"]
        command += ["--storage", str(storage), *arguments]
        self.log = storage.with_suffix(".log")
        self.began = time.monotonic()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=storage.parent, env=_environment(storage, environment), stdout=log, stderr=log
            )
        processes.started.add(self.process.pid)

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def end(self) -> Ended:
        """Waits for the end of the sweep; kills it after LONGEST seconds."""
        code: int | None
        try:
            code = self.process.wait(max(1.0, LONGEST - (time.monotonic() - self.began)))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = None
        return Ended(code, self.log.read_text(), time.monotonic() - self.began)


def undisturbed(storage: Path) -> tuple[Path, float]:
    """The storage and the seconds of an undisturbed sweep, which is run if it does not exist yet."""
    seconds = storage.with_suffix(".seconds")
    if not seconds.exists():
        ended = Sweep(storage, {}, *ONE_AT_A_TIME).end()
        if ended.code != 0:
            raise RuntimeError(f"the undisturbed sweep ended with {ended.code}: {ended.output}")
        processes.end_remaining(60.0)
        seconds.write_text(f"{ended.seconds:.1f}")
    return storage, float(seconds.read_text())


def _environment(storage: Path, more: Mapping[str, str]) -> dict[str, str]:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}",
        "UNDERTOW_RAY_TMP": str(storage.parent / "ray"),
    }
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        environment.pop(name, None)
    return {**environment, **more}


class Nodes:
    """A cluster of three nodes on this machine; with a head node without CPUs, the other two do the work."""

    def __init__(self, folder: Path, head_cpus: int = 1) -> None:
        self.log = folder / "nodes.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.nodes", str(folder / "nodes"), str(head_cpus)],
                cwd=ROOT,
                env=_environment(folder / "storage", FAST_HEALTH_CHECKS),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        processes.started.add(self.process.pid)
        self.address = self._line()

    def others(self) -> list[psutil.Process]:
        """The raylets of all nodes but the head node, which was started first."""
        raylets = processes.victims("raylet", processes.below(self.process.pid))
        return sorted(raylets, key=lambda raylet: raylet.create_time())[1:]

    def complete(self) -> None:
        """Replaces each lost node."""
        for _ in range(2 - len(self.others())):
            if self.process.stdin:
                print("another", file=self.process.stdin, flush=True)
            self._line()

    def end(self) -> None:
        self.process.communicate(timeout=120)

    def _line(self) -> str:
        line = self.process.stdout.readline().strip() if self.process.stdout else ""
        if not line:
            raise RuntimeError(f"the cluster ended:\n{self.log.read_text()[-3000:]}")
        return line

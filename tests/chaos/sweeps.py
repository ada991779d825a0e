"""Sweeps of the harness, and what they may run on: a Ray and a database of their own, nodes, a server."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.chaos import processes

ROOT = Path(__file__).parents[2]
STUDY = Path(__file__).parent / "study.py"
LONGEST = 900.0  # seconds: a sweep that takes longer hangs
SERVER_STARTS = 120.0


@dataclass(frozen=True)
class Ended:
    """How a sweep ended; `code` is None where it had to be ended."""

    code: int | None
    output: str
    seconds: float


class Sweep:
    """A sweep in a process of its own, writing to `storage`."""

    def __init__(self, storage: Path, environment: Mapping[str, str], *arguments: str) -> None:
        command = [sys.executable, str(ROOT / "jobs" / "sweep.py"), "--study", f"{STUDY}:study"]
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
        """Waits for the sweep's end; one that hangs is killed."""
        code: int | None
        try:
            code = self.process.wait(max(1.0, LONGEST - (time.monotonic() - self.began)))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = None
        return Ended(code, self.log.read_text(), time.monotonic() - self.began)


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
    """A cluster of three nodes on this machine."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.nodes", str(folder / "nodes")],
            cwd=ROOT,
            env=_environment(folder / "storage", {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        processes.started.add(self.process.pid)
        self.address = self._line()

    def others(self) -> list[psutil.Process]:
        """The raylets of the nodes that are not the head, which was started first."""
        raylets = processes.victims("raylet", processes.below(self.process.pid))
        return sorted(raylets, key=lambda raylet: raylet.create_time())[1:]

    def complete(self) -> None:
        """Starts another node for each that was lost."""
        for _ in range(2 - len(self.others())):
            if self.process.stdin:
                print("another", file=self.process.stdin, flush=True)
            self._line()

    def end(self) -> None:
        self.process.communicate(timeout=120)

    def _line(self) -> str:
        line = self.process.stdout.readline().strip() if self.process.stdout else ""
        if not line:
            raise RuntimeError("the cluster ended")
        return line


class Server:
    """An MLflow server on the loopback address, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = int(one.getsockname()[1])
        self.folder, self.url = folder, f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        command = [
            str(Path(sys.executable).parent / "mlflow"),
            "server",
            "--host",
            "127.0.0.1",
            "--workers",
            "1",
        ]
        command += ["--port", str(self.port), "--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        command += ["--artifacts-destination", str(self.folder / "served")]
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(command, env=dict(os.environ), stdout=log, stderr=log)
        processes.started.add(self.process.pid)
        deadline = time.monotonic() + SERVER_STARTS
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=2).close()
            except OSError:
                time.sleep(0.3)
            else:
                return
        raise RuntimeError(f"the MLflow server did not answer: {(self.folder / 'server.log').read_text()}")

    def processes(self) -> list[psutil.Process]:
        """The server and its workers."""
        return processes.below(self.process.pid) if self.process else []

    def kill(self) -> None:
        """Kills the server with all its processes."""
        for process in self.processes():
            processes.kill(process)
        if self.process:
            self.process.wait()
        self.process = None

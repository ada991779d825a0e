"""A real MLflow server on the loopback address, which tests kill and start again."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

START_TIMEOUT = 120.0  # seconds


class Server:
    """A server with its database in `folder`. It keeps its port across restarts."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = int(one.getsockname()[1])
        self.folder, self.url = folder, f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> int:
        """Starts the server in its own process group, waits until it answers, and returns its pid.

        Raises RuntimeError with the end of the server's log if it does not answer in time.
        """
        command = [str(Path(sys.executable).parent / "mlflow"), "server", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        command += ["--artifacts-destination", str(self.folder / "served")]
        environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # as `make ui` does
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=2).close()
            except OSError:
                time.sleep(0.3)
            else:
                return self.process.pid
        raise RuntimeError(f"MLflow did not answer: {(self.folder / 'server.log').read_text()[-2000:]}")

    def kill(self) -> None:
        """Kills the server's process group, if it is running."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process = None

"""A Ray head for tests: loopback only, with token authentication, on free ports and in a folder of the test.

Its Python has the locked packages but not this one, which travels with the job.
"""

import json
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.sweep.bare import bare_environment, bare_python

RAY = ("-m", "ray.scripts.scripts")
RUNTIME_ENV = {"env_vars": {"PYTHONPATH": "platform"}}


@dataclass(frozen=True)
class Head:
    """A running head: the address for jobs, and the environment with the token."""

    address: str
    environment: dict[str, str]

    def submit(self, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs `ray job submit` in `folder` and waits until the job ends."""
        arguments = [
            sys.executable,
            *RAY,
            "job",
            "submit",
            "--address",
            self.address,
            "--working-dir",
            ".",
            "--runtime-env-json",
            json.dumps(RUNTIME_ENV),
            "--",
            *command,
        ]
        return subprocess.run(
            arguments, cwd=folder, env=self.environment, capture_output=True, text=True, timeout=600
        )


@contextmanager
def ray_head(folder: Path) -> Iterator[Head]:
    """Starts a head whose files are under `folder`; terminates its process when the block ends."""
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    gcs, dashboard, client, agent, agent_grpc = _free_ports(5)
    python = bare_python(folder / "bare")
    environment = bare_environment(
        python,
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN_PATH=str(token),
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
        RAY_ENABLE_UV_RUN_RUNTIME_ENV="0",
        RAY_USAGE_STATS_ENABLED="0",
    )
    ports = [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    ports += [f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}"]
    command = [str(python), *RAY, "start", "--head", "--block", f"--temp-dir={folder / 'ray'}", *ports]
    command += ["--node-ip-address=127.0.0.1", "--include-dashboard=true", "--disable-usage-stats"]
    log = (folder / "head.log").open("w")
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{dashboard}"
        _wait_for(address, token.read_text(), process)
        yield Head(address, environment)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        log.close()


def _wait_for(address: str, token: str, process: subprocess.Popen[bytes]) -> None:
    request = urllib.request.Request(f"{address}/api/version", headers={"Authorization": f"Bearer {token}"})
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(request, timeout=5).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise RuntimeError(f"the Ray head did not answer at {address}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for listener in sockets:
        listener.bind(("127.0.0.1", 0))
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports

"""Two hosts on this machine: names, addresses and processes of their own in Linux namespaces, and a cable.

The hosts share the files of this machine, as nodes of a cluster share a file system. Each has a local disk
(the folder `local` of the fixture's folder, another file system on each host) and a /run. Their network
reaches nothing but each other. A host ends, with all of its processes and mounts, when its first
process does, which reads a pipe that this program holds.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

NAMESPACES = ("--net", "--uts", "--pid", "--mount", "--fork", "--mount-proc")
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
# Mounts are private to the host. PID 1 of a process namespace must reap orphans, which bash does.
FIRST = """
set -e
hostname "$1"
mount --bind "$2/hosts" /etc/hosts
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/munge
mount -t tmpfs tmpfs "$2/local"
ip link set lo up
echo ready
while read -r _; do :; done
"""


@dataclass(frozen=True)
class Host:
    """A running host.

    Attributes:
        first: the id, in this program's process table, of the host's first process.
    """

    name: str
    address: str
    first: int
    folder: Path

    def command(self, *words: str, cwd: Path | None = None) -> list[str]:
        """The command that runs `words` on this host."""
        inside = ["nsenter", f"--target={self.first}", "--net", "--uts", "--pid", "--mount", "--"]
        # Entering a mount namespace changes the working directory.
        return [*inside, "bash", "-c", 'cd "$0" && exec "$@"', str(cwd or self.folder), *words]

    def run(
        self, *words: str, environment: Mapping[str, str], cwd: Path | None = None, seconds: float = 120
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words, cwd=cwd),
            env=dict(environment),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def start(self, *words: str, environment: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
        """Starts a daemon in the foreground; it ends with the host."""
        with log.open("ab") as file:
            command, nothing = self.command(*words), subprocess.DEVNULL
            return subprocess.Popen(command, env=dict(environment), stdin=nothing, stdout=file, stderr=file)

    def wait_without(self, word: str, seconds: float = 60) -> None:
        """Waits until no process of the host has a word in its command line."""
        wait_until(lambda: not self.processes(word), seconds, lambda: "\n".join(self.processes("")))

    def processes(self, word: str) -> list[str]:
        """The command lines of the host's running processes that contain a word."""
        ours = Path(f"/proc/{self.first}/ns/pid").readlink()
        found = []
        for process in psutil.process_iter():
            # Not the descendants of the first process: those that `command` starts have a parent elsewhere.
            with suppress(psutil.Error, OSError):  # it ended meanwhile
                if Path(f"/proc/{process.pid}/ns/pid").readlink() == ours:
                    line = " ".join(process.cmdline())
                    found += [line] if word in line else []
        return found


def skip_without(*commands: str) -> None:
    """Skips the test if this machine lacks the commands, or may not have namespaces."""
    if os.geteuid() != 0:
        pytest.skip("hosts in namespaces need root")
    needed, path = ("ip", "nsenter", "unshare", *commands), f"{os.environ['PATH']}:{SBIN}"
    if missing := [name for name in needed if shutil.which(name, path=path) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}; run make test-clusters as root on Debian")
    trial = subprocess.run(
        ["unshare", *NAMESPACES, "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    if trial.returncode:
        pytest.skip(f"no namespaces on this machine: {trial.stderr.strip()}")


@contextmanager
def two_hosts(folder: Path) -> Iterator[tuple[Host, Host]]:
    """Starts the hosts h1 and h2, 10.77.0.1 and 10.77.0.2, with files in `folder`, which has a short path."""
    addresses = {"h1": "10.77.0.1", "h2": "10.77.0.2"}
    entries = [f"{address} {name}" for name, address in addresses.items()]
    (folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *entries, ""]))
    (folder / "local").mkdir()
    started: list[subprocess.Popen[str]] = []
    hosts = []
    try:
        for name, address in addresses.items():
            unshare = ["unshare", *NAMESPACES, "--kill-child"]
            process = subprocess.Popen(
                [*unshare, "bash", "-c", FIRST, "first", name, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PATH": f"{SBIN}:{os.environ['PATH']}"},
                text=True,
            )
            started.append(process)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", "the host did not start"
            (first,) = psutil.Process(process.pid).children()
            hosts.append(Host(name, address, first.pid, folder))
        _join(*hosts)
        yield hosts[0], hosts[1]
    finally:
        for process in started:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _join(one: Host, other: Host) -> None:
    """Connects two hosts with a virtual cable."""

    def ip(host: Host, *words: str) -> None:
        command = ["nsenter", f"--target={host.first}", "--net", "--", "ip", *words]
        subprocess.run(command, check=True, env={**os.environ, "PATH": f"{SBIN}:{os.environ['PATH']}"})

    ip(one, *["link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns"], str(other.first))
    for host in (one, other):
        ip(host, "addr", "add", f"{host.address}/24", "dev", "eth0")
        ip(host, "link", "set", "eth0", "up")
        ip(host, "route", "add", "default", "dev", "eth0")  # programs find their address by the default route


def wait_until(condition: Callable[[], object], seconds: float, what: Callable[[], str]) -> None:
    """Waits until a condition holds; fails with `what` after some time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:.0f} seconds: {what()}")
        time.sleep(0.5)

"""Two machines that accept SSH, on hosts in namespaces, and the laptop of a user that has their key.

Machines and laptop have home folders and a /tmp of their own, and share all other files. The home folders are
at one path, which /etc/passwd names, because sshd and ssh read the path there and not from HOME. /root stays
visible: Python may be installed in it.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import bootstrap

from tests.clusters.hosts import SBIN, Host, two_hosts
from tests.sweep.bare import bare_python

ROOT = Path(__file__).parents[2]
COMMANDS = ("sshd", "ssh", "ssh-keygen", "rsync")
CLUSTER_FILE = "platform/ssh-cluster.yaml"
STUDY_FILE = "tests/sweep/small_study.py"
LAPTOP = "laptop"
SSHD = """
Port 22
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile %h/.ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
"""
# Each host offers one CPU: together they have no more than a machine with two.
BASHRC = """export RAY_OVERRIDE_RESOURCES='{"CPU": 1}'\n"""
# Arguments: folder, name, a command line or "", and folders in /tmp that stay visible. Gives the mount
# namespace the home folder and the /tmp of this name, then runs the command line in the clone.
OWN_FILES = """
set -e
folder=$1 name=$2 line=$3
shift 3
mount --bind "$folder/passwd" /etc/passwd
mount --bind "$folder/shadow" /etc/shadow
mount --bind "$folder/home-$name" "$folder/home"
mkdir -p /run/sshd /run/tmp
mount --bind "$folder/tmp-$name" /run/tmp
for kept; do
  mkdir -p "/run/tmp/${kept#/tmp/}"
  mount --rbind "$kept" "/run/tmp/${kept#/tmp/}"
done
mount --rbind /run/tmp /tmp
[ -z "$line" ] || { cd "$folder/clone"; exec bash -c "$line"; }
"""


@dataclass(frozen=True)
class Laptop:
    """The user's machine: a mount namespace on the host h2, whose network and processes it shares.

    Attributes:
        hosts: the machines of the cluster, the head first.
    """

    folder: Path
    hosts: tuple[Host, Host]

    def run(self, line: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Runs a command line in the clone."""
        words = own_files(self.folder, LAPTOP, line)
        return self.hosts[1].run("unshare", "--mount", *words, environment=self.environment, seconds=seconds)

    def start(self, line: str, log: Path) -> "subprocess.Popen[bytes]":
        """Starts a command line in the clone that runs until the hosts end."""
        words = own_files(self.folder, LAPTOP, line)
        return self.hosts[1].start("unshare", "--mount", *words, environment=self.environment, log=log)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:{SBIN}",
            "HOME": str(self.folder / "home"),
            "LANG": "C.UTF-8",
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def logs(self) -> str:
        """The logs of sshd and of Ray's autoscaler on the head, for the message of a failed test."""
        files = sorted(self.folder.glob("*.log"))
        files += sorted(self.folder.glob("tmp-h1/ray/session_2*/logs/monitor*"))
        return "\n".join(f"{file.name}:\n{file.read_text(errors='replace')}" for file in files)


def own_files(folder: Path, name: str, line: str = "") -> list[str]:
    """The command that sets up the mount namespace it runs in; see OWN_FILES."""
    kept = [path for path in (folder, ROOT, Path(sys.prefix)) if path.is_relative_to("/tmp")]
    return ["bash", "-c", OWN_FILES, "own-files", str(folder), name, line, *map(str, kept)]


@contextmanager
def ssh_machines(folder: Path) -> Iterator[Laptop]:
    """Starts two machines with files in `folder`, whose path is short, and ends them with the block."""
    (folder / "home").mkdir()
    for name in ("h1", "h2", LAPTOP):
        (folder / f"home-{name}" / ".ssh").mkdir(parents=True, mode=0o700)
        (folder / f"tmp-{name}").mkdir()
    _write_accounts(folder)
    key = folder / f"home-{LAPTOP}" / ".ssh" / "id_ed25519"
    for file in (key, folder / "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True)
    (folder / "sshd_config").write_text(SSHD.format(folder=folder))
    _write_clone(folder)
    with two_hosts(folder) as hosts:
        laptop = Laptop(folder, hosts)
        for host in hosts:
            home = folder / f"home-{host.name}"
            shutil.copy(key.with_suffix(".pub"), home / ".ssh" / "authorized_keys")
            (home / ".bashrc").write_text(BASHRC)
            _write_environment(home, folder / "home")
            mounted = host.run(*own_files(folder, host.name), environment=laptop.environment)
            assert mounted.returncode == 0, mounted.stderr
            sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:{SBIN}")
            assert sshd is not None
            command = (sshd, "-D", "-e", "-f", str(folder / "sshd_config"))
            host.start(*command, environment=laptop.environment, log=folder / f"sshd-{host.name}.log")
        yield laptop


def _write_accounts(folder: Path) -> None:
    """Copies /etc/passwd and /etc/shadow; root's home folder is `folder`/home, its account is unlocked."""
    for name, changes in (("passwd", {5: str(folder / "home"), 6: "/bin/bash"}), ("shadow", {1: "*"})):
        lines = []
        for line in Path("/etc", name).read_text().splitlines():
            fields = line.split(":")
            if fields[0] == "root":
                fields = [changes.get(index, field) for index, field in enumerate(fields)]
            lines.append(":".join(fields))
        (folder / name).touch(mode=0o600 if name == "shadow" else 0o644)
        (folder / name).write_text("\n".join([*lines, ""]))


def _write_clone(folder: Path) -> None:
    """Copies what the sweep needs of this working tree, and edits the cluster file as its comments say."""
    clone = folder / "clone"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("jobs", "platform"):
        shutil.copytree(ROOT / name, clone / name, ignore=ignored)
    (clone / STUDY_FILE).parent.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", ".gitignore", STUDY_FILE):
        shutil.copy(ROOT / name, clone / name)
    text = (clone / CLUSTER_FILE).read_text()
    for old, new in (
        ("head_ip: 192.0.2.1\n", "head_ip: 10.77.0.1\n"),
        ("worker_ips: [192.0.2.2]\n", "worker_ips: [10.77.0.2]\n"),
        ("ssh_user: USER\n", "ssh_user: root\n"),
    ):
        assert text.count(old) == 1, f"{old!r} in {CLUSTER_FILE}"
        text = text.replace(old, new)
    (clone / CLUSTER_FILE).write_text(text)


def _write_environment(home: Path, seen_as: Path) -> None:
    """Prepares the environment of a machine, since it has no network to install the packages from.

    It uses the installed packages of this process, and is complete for bootstrap.py. It has no marker of that
    program, which therefore never deletes it; if its stamp does not match, `ray up` fails.

    Args:
        home: the home folder, as this process sees it.
        seen_as: its path on the machine.
    """
    environment = home / "undertow" / ".venv"
    python = bare_python(environment)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "undertow.pth").write_text(f"{seen_as / 'undertow' / 'platform'}\n")
    there = seen_as / "undertow" / ".venv"
    script = (Path(sys.executable).parent / "ray").read_text()
    ray = python.parent / "ray"
    ray.write_text(re.sub(r"\A#!.*", f"#!{there / 'bin' / 'python'}", script))
    ray.chmod(0o755)
    with patch.object(bootstrap, "VENV", there):  # the stamp's name depends on the location
        (environment / bootstrap.stamp("cpu").name).touch()

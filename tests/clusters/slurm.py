"""Slurm with two nodes of one CPU each, on hosts in namespaces: Debian's packages, as on a cluster."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.clusters.hosts import SBIN, Host, two_hosts, wait_until

ROOT = Path(__file__).parents[2]
COMMANDS = ("slurmctld", "slurmd", "sbatch", "srun", "scancel", "munged")
# cred_expire: also how long a requeued job waits before it starts again, by default two minutes.
CONFIGURATION = """
ClusterName=hosts
SlurmctldHost=h1(10.77.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=20
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
NodeName=h1 NodeHostname=h1 NodeAddr=10.77.0.1 CPUs=1 RealMemory=4000
NodeName=h2 NodeHostname=h2 NodeAddr=10.77.0.2 CPUs=1 RealMemory=4000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Slurm:
    """A running Slurm; commands run on the host h1, in a folder that looks like a clone."""

    folder: Path
    hosts: tuple[Host, Host]
    environment: dict[str, str]

    @property
    def clone(self) -> Path:
        return self.folder / "clone"

    def run(self, *words: str) -> str:
        done = self.hosts[0].run(*words, environment=self.environment, cwd=self.clone)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def submit(self, *options_and_arguments: str) -> "Job":
        """Submits a job, given as after `sbatch`."""
        return Job(self, self.run("sbatch", "--parsable", *options_and_arguments))


@dataclass(frozen=True)
class Job:
    slurm: Slurm
    number: str

    def field(self, name: str) -> str:
        """A field of `scontrol show job`."""
        text = self.slurm.run("scontrol", "show", "job", "--oneliner", self.number)
        return match[1] if (match := re.search(rf"\b{name}=(\S*)", text)) else ""

    @property
    def log(self) -> str:
        path = self.slurm.clone / f"undertow-{self.number}.log"
        return path.read_text() if path.exists() else ""

    def all_logs(self) -> str:
        """The log of the job and those of Ray's start on its nodes, for the message of a failed test."""
        files = sorted(self.slurm.clone.glob(f"*-{self.number}*.log"))
        return "\n".join(f"{file.name}:\n{file.read_text()}" for file in files)

    def wait_for(self, text: str, seconds: float = 600) -> None:
        """Waits until the log contains a text; fails if the job ends before."""
        wait_until(
            lambda: text in self.log or self.has_ended,
            seconds,
            lambda: f"{text!r} in the log of job {self.number}:\n{self.all_logs()}",
        )
        assert text in self.log, self.all_logs()

    def wait_for_end(self, seconds: float = 900) -> str:
        """Waits until the job has ended; returns its state."""
        wait_until(lambda: self.has_ended, seconds, lambda: f"job {self.number} ends:\n{self.all_logs()}")
        return self.field("JobState")

    @property
    def has_ended(self) -> bool:
        return self.field("JobState") in ("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL")


@contextmanager
def running_slurm(folder: Path) -> Iterator[Slurm]:
    """Starts Slurm with its files in `folder`, whose path is short; ends it with the block."""
    configuration = folder / "slurm.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    for name in ("state", "spool-h1", "spool-h2", "home", "clone"):
        (folder / name).mkdir()
    clone = {"jobs": ROOT / "jobs", "platform": ROOT / "platform", ".venv": Path(sys.executable).parents[1]}
    for name, target in clone.items():
        (folder / "clone" / name).symlink_to(target)
    environment = {
        "PATH": f"{os.environ['PATH']}:{SBIN}",
        "HOME": str(folder / "home"),
        "SLURM_CONF": str(configuration),
        "UNDERTOW_RAY_TMP": str(folder / "local"),
        "LANG": "C.UTF-8",
    }
    with two_hosts(folder) as hosts:
        for host in hosts:
            munge = [f"--{name}=/run/munge/{file}" for name, file in MUNGE_FILES.items()]
            log = folder / f"daemons-{host.name}.log"
            for command in (["munged", "--foreground", f"--key-file={key}", *munge], ["slurmd", "-D"]):
                host.start(*command, environment=environment, log=log)
        hosts[0].start("slurmctld", "-D", environment=environment, log=folder / "slurmctld.log")
        slurm = Slurm(folder, hosts, environment)

        def are_idle() -> bool:
            nodes = hosts[0].run("sinfo", "--noheader", "--Node", "--format=%T", environment=environment)
            return nodes.stdout.split() == ["idle", "idle"]

        def logs() -> str:
            return "\n".join(path.read_text() for path in sorted(folder.glob("*.log")))

        wait_until(are_idle, 60, lambda: f"Slurm's nodes are idle:\n{logs()}")
        yield slurm


MUNGE_FILES = {
    "socket": "munge.socket.2",
    "pid-file": "munged.pid",
    "seed-file": "munged.seed",
    "log-file": "munged.log",
}


@contextmanager
def short_folder(name: str) -> Iterator[Path]:
    """A new folder with a short path: Ray's and SSH's sockets are in it. Removed with the block."""
    folder = Path(f"/tmp/{name}-{os.getpid()}")
    folder.mkdir(mode=0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)

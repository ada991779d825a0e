"""platform/ssh-cluster.yaml on two hosts with sshd: `ray up`, a sweep as a job, its result, and `ray down`.

The addresses, the user's name and the key are set as a user would. Besides, Ray is told that each host has
one CPU, because they share those of this machine, and the locked environment is already on the hosts.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import bootstrap
import pytest
import yaml

from tests.clusters.hosts import SBIN, Host, skip_without, two_hosts
from tests.clusters.logs import unreadable
from tests.clusters.slurm import ROOT, short_folder
from undertow.cli.studies import load
from undertow.storage.manifest import Address
from undertow.storage.store import Store
from undertow.sweep.run import make_plan

pytestmark = [pytest.mark.clusters, pytest.mark.timeout(1800)]

STUDY = ROOT / "tests" / "sweep" / "small_study.py"
SSHD = """
ListenAddress {address}
HostKey {folder}/host_key
PidFile /run/sshd.pid
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
StrictModes no
"""


@dataclass(frozen=True)
class Machines:
    """Two hosts with sshd; commands run on the first one, in the folder of the clone."""

    folder: Path
    hosts: tuple[Host, Host]
    environment: dict[str, str]

    def run(self, *words: str, seconds: float = 300) -> str:
        done = self.hosts[0].run(*words, environment=self.environment, cwd=ROOT, seconds=seconds)
        output = done.stdout + done.stderr
        assert done.returncode == 0, f"{' '.join(words)}: {output}"
        return output


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    skip_without("sshd", "ssh", "ssh-keygen", "rsync")
    with short_folder("ue") as folder, two_hosts(folder) as hosts:
        subprocess.run(key_command(folder / "host_key"), check=True)
        environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:{SBIN}",
            "HOME": str(hosts[0].home),
            "LANG": "C.UTF-8",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        for host in hosts:
            prepare(host)
            configuration = folder / f"sshd-{host.name}.conf"
            configuration.write_text(SSHD.format(address=host.address, folder=folder))
            log = folder / f"sshd-{host.name}.log"
            sshd = ("/usr/sbin/sshd", "-D", "-e", "-f", str(configuration))
            host.start(*sshd, environment=environment, log=log)
        (folder / "cluster.yaml").write_text(yaml.safe_dump(filled_in(hosts)))
        yield Machines(folder, hosts, environment)


def key_command(path: Path) -> list[str]:
    return ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]


def prepare(host: Host) -> None:
    """Makes the home folder of a host: the user's key, and the environment that `make setup` installs."""
    keys = host.home / ".ssh"
    keys.mkdir(mode=0o700)
    if host.name == "h1":
        subprocess.run(key_command(keys / "id_ed25519"), check=True)
    public = (host.folder / "home-h1" / ".ssh" / "id_ed25519.pub").read_text()
    (keys / "authorized_keys").write_text(public)
    installed, environment = Path(sys.executable).parents[1], host.home / "undertow" / ".venv"
    environment.mkdir(parents=True)
    for name in ("bin", "lib", "pyvenv.cfg"):
        (environment / name).symlink_to(installed / name)
    (environment / bootstrap.OURS).touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "VENV", environment)
        bootstrap.stamp("cpu").touch()


def filled_in(hosts: tuple[Host, Host]) -> dict[str, object]:
    """The cluster file with what a user edits, and with one CPU per host."""
    text = (ROOT / "platform" / "ssh-cluster.yaml").read_text()
    for before, after in {
        "192.0.2.1": hosts[0].address,
        "192.0.2.2": hosts[1].address,
        "ssh_user: USER": "ssh_user: root",
        "ray start --": "ray start --num-cpus=1 --",
    }.items():
        assert before in text
        text = text.replace(before, after)
    return dict(yaml.safe_load(text))


def test_a_sweep_runs_on_machines_reached_over_ssh(machines: Machines) -> None:
    cluster, storage = str(machines.folder / "cluster.yaml"), machines.folder / "storage"
    machines.run("bash", "-c", "ray get-auth-token --generate >/dev/null")
    machines.run("ray", "up", "--yes", cluster)
    variables = {"PYTHONPATH": "platform", "UNDERTOW_NODES": "2"}
    submit = ["ray", "job", "submit", "--address", "http://127.0.0.1:8265", "--working-dir", "."]
    submit += ["--runtime-env-json", json.dumps({"env_vars": variables}), "--"]
    sweep = ["python", "jobs/sweep.py", "--study", f"{STUDY.relative_to(ROOT)}:study", "--seeds", "1"]
    sweep += ["--storage", str(storage)]
    log = machines.run("env", "RAY_AUTH_MODE=token", *submit, *sweep, seconds=900)
    assert "Report: " in log
    assert "Ray's dashboard: ssh -L 8265:127.0.0.1:8265 root@10.77.0.1, then http://127.0.0.1:8265" in log
    assert f"ssh -L 5000:127.0.0.1:5000 root@10.77.0.1, there make ui STORAGE={storage}, then" in log
    of_the_sweep = log[
        log.index("Ray's dashboard: ") : log.index("Report: ")
    ]  # the rest is of `ray job submit`
    assert unreadable(of_the_sweep) == []
    store = Store(str(storage))
    plan = make_plan(replace(load(f"{STUDY}:study", ROOT / "jobs" / "studies"), seeds=(0,)), store)
    assert plan.is_complete
    assert {store.manifest(Address(a.kind, k)).node for k, a in plan.artifacts.items()} == {"h1", "h2"}
    machines.run("ray", "down", "--yes", cluster)
    machines.hosts[0].wait_without("raylet")
    # Ray's local provider stops Ray on the first machine only; the others notice that it is gone.
    machines.hosts[1].wait_without("raylet", seconds=180)

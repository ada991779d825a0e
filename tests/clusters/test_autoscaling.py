"""A sweep on a cluster that begins without a worker: Ray's autoscaler starts nodes and stops idle ones.

Ray's provider for tests starts each node as a raylet on the same host, which is one in namespaces here.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.artifact_files import file_digests
from tests.clusters.hosts import Host, skip_without, two_hosts, wait_until
from tests.clusters.logs import unreadable
from tests.clusters.slurm import ROOT, short_folder

STUDY = f"{ROOT / 'tests' / 'sweep' / 'small_study.py'}:study"
HEAD, HEAD_TYPE = "f" * 51 + "0" * 5, "ray.head.default"  # that Ray's provider for tests expects

COMMANDS = (
    "cluster_synced_files",
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)

pytestmark = [pytest.mark.clusters, pytest.mark.timeout(1800)]


def configuration(workers: int) -> dict[str, Any]:
    """A cluster file of Ray: a head without CPUs; workers of one CPU that leave after two idle seconds."""
    return {
        "cluster_name": "autoscaling",
        "max_workers": workers,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 2 / 60,
        "provider": {
            "type": "fake_multinode",
            "head_node_id": HEAD,
            "use_node_id_as_ip": True,  # all nodes have the address of the host
            "gcs_address": "10.77.0.1:6379",
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "head_node_type": HEAD_TYPE,
        "available_node_types": {
            HEAD_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "cpu": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": workers},
        },
        # Ray's schema demands the sections of `ray up`, which is not used.
        **{section: {} for section in ("auth", "docker", "file_mounts")},
        **{section: [] for section in COMMANDS},
        "file_mounts_sync_continuously": False,
    }


@dataclass
class Cluster:
    """A running head on a host.

    Attributes:
        seen: the ids of all worker nodes that were running at some time.
    """

    host: Host
    environment: dict[str, str]
    seen: set[str] = field(default_factory=set)

    def raylets(self) -> dict[str, psutil.Process]:
        """The raylets of the running worker nodes, by the node's id."""
        ours = Path(f"/proc/{self.host.first}/ns/pid").readlink()
        found = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):  # it ended meanwhile
                is_raylet = process.name() == "raylet"
                if is_raylet and Path(f"/proc/{process.pid}/ns/pid").readlink() == ours:
                    for word in process.cmdline():  # empty if it has just ended
                        if word.startswith("--node_id="):
                            found[word.partition("=")[2]] = process
        found.pop(HEAD, None)
        self.seen |= found.keys()
        return found

    def log(self) -> str:
        """The end of the autoscaler's log, which is on the host's own disk."""
        line = f"tail -n 60 {self.host.folder}/local/session_latest/logs/monitor.log"
        return self.host.run("bash", "-c", line, environment=self.environment).stdout


@dataclass(frozen=True)
class Sweep:
    """A started sweep and its storage."""

    process: Any
    log: Path
    storage: Path

    def wait_for(self, text: str, cluster: Cluster, seconds: float = 600) -> None:
        """Waits until the log contains a text, and records the cluster's nodes meanwhile."""

        def found() -> bool:
            cluster.raylets()
            return text in self.log.read_text() or self.process.poll() is not None

        wait_until(found, seconds, lambda: f"{text!r} in the log:\n{self.log.read_text()}")
        assert text in self.log.read_text(), self.log.read_text()

    def wait_for_end(self, cluster: Cluster | None = None, seconds: float = 900) -> int:
        def ended() -> bool:
            if cluster:
                cluster.raylets()
            return self.process.poll() is not None

        wait_until(ended, seconds, lambda: f"the sweep ends:\n{self.log.read_text()}")
        return int(self.process.returncode)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    skip_without()
    with short_folder("ua") as folder:
        yield folder


@pytest.fixture(scope="module")
def hosts(folder: Path) -> Iterator[Sequence[Host]]:
    with two_hosts(folder) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def cluster(folder: Path, hosts: Sequence[Host]) -> Iterator[Cluster]:
    """A head that may start two workers."""
    (folder / "cluster.json").write_text(json.dumps(configuration(workers=2)))
    (folder / "home").mkdir()
    environment = {
        **plain_environment(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0" * 64,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    }
    autoscaler = {
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "AUTOSCALER_HEARTBEAT_TIMEOUT_S": "10",  # until a lost node is replaced, by default 30
    }
    start = ["ray", "start", "--head", "--block", "--num-cpus=0", "--disable-usage-stats"]
    start += [f"--autoscaling-config={folder / 'cluster.json'}", f"--temp-dir={folder / 'local'}"]
    start += ["--node-ip-address=10.77.0.1", "--port=6379", "--min-worker-port=0", "--max-worker-port=0"]
    log = folder / "head.log"
    hosts[0].start(*start, environment={**environment, **autoscaler}, log=log)
    wait_until(lambda: "Ray runtime started" in log.read_text(), 120, lambda: log.read_text())
    yield Cluster(hosts[0], {**environment, "RAY_ADDRESS": "10.77.0.1:6379", "UNDERTOW_CPUS": "2x1"})


def plain_environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "platform"),
        "HOME": str(folder / "home"),
        "LANG": "C.UTF-8",
    }


def start(host: Host, name: str, environment: dict[str, str]) -> Sweep:
    log, storage = host.folder / f"{name}.log", host.folder / name
    log.touch()
    command = ["python", str(ROOT / "jobs" / "sweep.py"), "--study", STUDY, "--seeds", "1"]
    command += ["--storage", str(storage)]
    return Sweep(host.start(*command, environment=environment, log=log), log, storage)


def test_workers_start_late_leave_when_idle_and_one_dies_during_training(
    cluster: Cluster, hosts: Sequence[Host], folder: Path
) -> None:
    assert cluster.raylets() == {}
    sweep = start(hosts[0], "disturbed", cluster.environment)
    sweep.wait_for("waiting for nodes: 0 of the 2 declared CPUs are running", cluster)
    sweep.wait_for("datasets: done", cluster)
    time.sleep(5)
    wait_until(lambda: cluster.raylets(), 120, lambda: f"a node for the students:\n{sweep.log.read_text()}")
    victim = next(iter(cluster.raylets().values()))
    victim.send_signal(signal.SIGKILL)
    assert sweep.wait_for_end(cluster) == 0, sweep.log.read_text()
    log = sweep.log.read_text()
    assert "Report: " in log
    assert unreadable(log) == []
    assert len(cluster.seen) > 2, f"no node left or was replaced:\n{cluster.log()}"
    wait_until(lambda: not cluster.raylets(), 120, lambda: f"idle nodes: {cluster.raylets().keys()}")

    undisturbed = start(hosts[1], "undisturbed", plain_environment(folder))
    assert undisturbed.wait_for_end() == 0, undisturbed.log.read_text()
    assert file_digests(sweep.storage) == file_digests(undisturbed.storage)

"""A sweep on a cluster whose head offers no CPU, and whose nodes Ray starts and stops during the sweep.

Ray's fake provider starts the nodes as processes, on one host in namespaces; the autoscaler is the real one.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.chaos.checks import Made, different, made
from tests.clusters.hosts import Host, skip_without, two_hosts, wait_until
from tests.clusters.logs import unreadable
from tests.clusters.slurm import ROOT, short_folder
from undertow.storage.manifest import Address

pytestmark = [pytest.mark.clusters, pytest.mark.timeout(1800)]

STUDY = f"{ROOT / 'tests' / 'sweep' / 'small_study.py'}:study"
RAYLET = "/raylet/raylet "  # in the command line of the process that every node has once
# Settings without effect for this provider, which Ray's wheel lacks.
EMPTY_LISTS = (
    *("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands"),
    *("cluster_synced_files", "rsync_exclude", "rsync_filter"),
)
UNUSED: dict[str, object] = {
    **{name: {} for name in ("auth", "docker", "file_mounts")},
    **{name: [] for name in EMPTY_LISTS},
    "file_mounts_sync_continuously": False,
}
WORKER = {"resources": {"CPU": 1, "object_store_memory": 200_000_000}, "node_config": {}, "min_workers": 0}
PROVIDER = {
    "type": "fake_multinode",
    "use_node_id_as_ip": True,
    "disable_node_updaters": True,
    "disable_launch_config_check": True,
}
CONFIGURATION = {
    "cluster_name": "on-demand",
    "max_workers": 2,
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 0.1,  # nodes leave between the waves
    "head_node_type": "ray.head.default",
    "available_node_types": {
        "ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0},
        "worker": {**WORKER, "max_workers": 2},
    },
    **UNUSED,
}


@dataclass(frozen=True)
class Cluster:
    folder: Path
    host: Host
    environment: dict[str, str]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """The head of a cluster without any other node."""
    skip_without()
    with short_folder("ua") as folder, two_hosts(folder) as (host, _):
        address = f"{host.address}:6379"
        configuration = {**CONFIGURATION, "provider": {**PROVIDER, "gcs_address": address}}
        (folder / "cluster.json").write_text(json.dumps(configuration))
        environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(host.home),
            "PYTHONPATH": str(ROOT / "platform"),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "a" * 64,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        }
        head = ["ray", "start", "--head", "--block", "--num-cpus=0", f"--node-ip-address={host.address}"]
        head += [
            "--include-dashboard=false",
            f"--temp-dir={folder / 'local'}",
            f"--autoscaling-config={folder / 'cluster.json'}",
        ]
        autoscaler = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
        log = folder / "head.log"
        host.start(*head, environment=environment | autoscaler, log=log)
        answers = ("bash", "-c", f"exec 3<>/dev/tcp/{host.address}/6379")
        wait_until(
            lambda: host.run(*answers, environment=environment).returncode == 0, 120, lambda: log.read_text()
        )
        yield Cluster(folder, host, environment | {"RAY_ADDRESS": address})


@dataclass
class Watched:
    """What is seen of a sweep on the cluster while it runs.

    Attributes:
        nodes: the process ids of all raylets, one per node, the head included.
        lost: the one of the node that `lose` has ended; 0 before.
    """

    cluster: Cluster
    log: Path
    nodes: set[int]
    lost: int = 0
    code: int | None = None

    def look(self) -> None:
        """Notes the running nodes, and ends that of the first worker that trains students."""
        self.nodes.update(self.cluster.host.commands(RAYLET))
        if not self.lost and "\nstudents: " in self.log.read_text():
            for worker in self.cluster.host.commands("ray::RayTrainWorker"):
                with suppress(psutil.Error):  # it ended meanwhile
                    self.lost = psutil.Process(worker).ppid()
                    os.kill(self.lost, signal.SIGKILL)
                    return


def sweep(cluster: Cluster, **more: str) -> Watched:
    """Runs the small study on the cluster; of a sweep that trains students, one node is lost."""
    command = [sys.executable, str(ROOT / "jobs" / "sweep.py"), "--study", STUDY, "--seeds", "1"]
    command += ["--storage", str(cluster.folder / "storage")]
    watched = Watched(cluster, cluster.folder / "sweep.log", set())
    watched.log.write_text("")
    process = cluster.host.start(*command, environment=cluster.environment | more, log=watched.log)

    def has_ended() -> bool:
        watched.look()
        return process.poll() is not None

    try:
        wait_until(has_ended, 1200, watched.log.read_text)
    finally:
        process.kill()
    watched.code = process.wait()
    return watched


def test_a_cluster_that_declares_no_nodes_is_refused_with_the_variables_to_set(cluster: Cluster) -> None:
    refused = sweep(cluster)
    assert refused.code == 2, refused.log.read_text()
    assert "error: the cluster has no CPUs and no GPUs now" in refused.log.read_text()
    assert "UNDERTOW_CPUS=4x16" in refused.log.read_text()


def test_a_sweep_on_nodes_that_come_and_go_has_the_bytes_of_an_undisturbed_one(
    cluster: Cluster, undisturbed: dict[Address, Made]
) -> None:
    ended = sweep(cluster, UNDERTOW_CPUS="2x1")
    log = ended.log.read_text()
    assert ended.code == 0, log
    assert log.count("waiting for nodes: 0 of the 2 declared CPUs are running; the cluster starts") == 1
    assert "Report: " in log
    assert unreadable(log) == []
    assert different(undisturbed, made(cluster.folder / "storage")) == []
    assert ended.lost in ended.nodes, "no node was lost in a training"
    assert len(ended.nodes) > 4, "the head, two nodes, and one each after a lost and an idle one"
    wait_until(lambda: len(cluster.host.commands(RAYLET)) == 1, 120, lambda: "idle nodes leave")

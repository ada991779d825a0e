"""The cluster files, checked offline against Ray's and KubeRay's schemas and Ray's autoscaler."""

import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private import command_runner
from ray.autoscaler._private.kuberay import autoscaling_config
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil

ROOT = Path(__file__).resolve().parent.parent
ON_WORKERS = ("gpu_spot", "gpu_on_demand")


Config = dict[str, Any]


def for_aws() -> Config:
    """cluster.yaml unchanged."""
    return dict(yaml.safe_load((ROOT / "cluster.yaml").read_text()))


def for_google() -> Config:
    """cluster.yaml after the sed command given in its first lines."""
    text = (ROOT / "cluster.yaml").read_text()
    assert "sed -e '/^# AWS/,/^# end of AWS/d' -e 's/^#gcp //' cluster.yaml" in text
    text = re.sub(r"^# AWS$.*?^# end of AWS$", "", text, flags=re.MULTILINE | re.DOTALL)
    return dict(yaml.safe_load(re.sub(r"^#gcp ", "", text, flags=re.MULTILINE)))


@pytest.fixture(params=[for_aws, for_google], ids=["aws", "gcp"])
def cluster(request: pytest.FixtureRequest) -> Config:
    make: Callable[[], Config] = request.param
    return make()


@pytest.fixture
def job() -> Config:
    return dict(yaml.safe_load((ROOT / "platform" / "kuberay.yaml").read_text()))


def started(cluster: Config, demand: list[dict[str, float]], **state: Any) -> Counter[str]:
    """The number of machines by type that Ray would start for this demand, without the head."""
    config = AutoscalingConfig(cluster, skip_content_hash=True)
    reply = ResourceDemandScheduler().schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=config.get_node_type_configs(),
            max_num_nodes=cluster["max_workers"],
            resource_requests=ResourceRequestUtil.group_by_count(
                [ResourceRequestUtil.make(shape) for shape in demand]
            ),
            **state,
        )
    )
    return Counter({launch.instance_type: launch.count for launch in reply.to_launch})


def test_ray_accepts_the_file(cluster: Config) -> None:
    validate_config(prepare_config(cluster))


def test_ray_rejects_a_misspelt_key(cluster: Config) -> None:
    cluster["available_node_types"]["head"]["resource"] = {}
    with pytest.raises(Exception, match="resource"):
        validate_config(prepare_config(cluster))


def test_without_work_no_gpu_machine_runs(cluster: Config) -> None:
    assert not any(started(cluster, [])[kind] for kind in ON_WORKERS)


def test_gpu_work_starts_spot_machines_first(cluster: Config) -> None:
    assert started(cluster, [{"GPU": 1.0}] * 3)["gpu_spot"] == 3


def test_refused_spot_capacity_falls_back_to_on_demand(cluster: Config) -> None:
    refused = {"gpu_spot": 0.0}
    got = started(cluster, [{"GPU": 1.0}] * 2, recoverable_resource_availabilities=refused)
    assert got["gpu_on_demand"] == 2


def test_the_number_of_workers_is_limited(cluster: Config) -> None:
    got = started(cluster, [{"GPU": 1.0}] * 50)
    assert sum(got[kind] for kind in ON_WORKERS) <= cluster["max_workers"]


def test_small_tasks_start_no_gpu_machine(cluster: Config) -> None:
    got = started(cluster, [{"CPU": 1.0}])
    assert not any(got[kind] for kind in ON_WORKERS)
    assert "GPU" not in cluster["available_node_types"]["head"]["resources"]


@pytest.mark.parametrize("role", ["head", "worker"])
def test_every_ray_process_requires_the_token_and_keeps_the_environment(cluster: Config, role: str) -> None:
    (start,) = (command for command in cluster[f"{role}_start_ray_commands"] if "ray start" in command)
    for setting in ("RAY_AUTH_MODE=token", "RAY_ENABLE_UV_RUN_RUNTIME_ENV=0", "MLFLOW_TRACKING_URI="):
        assert setting in start.split("ray start")[0]


def test_the_variants_differ_only_in_the_cloud() -> None:
    aws, google = for_aws(), for_google()
    assert (aws["provider"]["type"], google["provider"]["type"]) == ("aws", "gcp")
    differ = {"provider", "available_node_types", "head_setup_commands", "worker_setup_commands"}
    assert {name for name in aws if aws[name] != google[name]} == differ
    for name, kind in aws["available_node_types"].items():
        other = google["available_node_types"][name]
        assert {k: v for k, v in kind.items() if k != "node_config"} == {
            k: v for k, v in other.items() if k != "node_config"
        }


def test_undertow_gpus_equals_what_the_cluster_can_start(cluster: Config) -> None:
    (start,) = (command for command in cluster["head_start_ray_commands"] if "ray start" in command)
    found = re.search(r"UNDERTOW_GPUS=(\d+)x(\d+)", start.split("ray start")[0])
    assert found is not None
    count, each = map(int, found.groups())
    assert count == cluster["max_workers"]
    assert {cluster["available_node_types"][kind]["resources"]["GPU"] for kind in ON_WORKERS} == {each}
    got = started(cluster, [{"GPU": float(each)}] * count)
    assert sum(got[kind] for kind in ON_WORKERS) == count


def test_the_head_starts_one_mlflow_server(cluster: Config, tmp_path: Path) -> None:
    """The shell that runs the command has all of it in its own command line, which `pgrep -f` reads, too."""
    (command,) = (command for command in cluster["head_start_ray_commands"] if "ray" not in command)
    name = f"mlflow{tmp_path.name}".replace("_", "")  # no other server on this machine has this name
    server = tmp_path / "bin" / name
    server.parent.mkdir()
    server.write_text("#!/bin/bash\necho $$ >>~/started\ntrap 'kill $!' TERM\nsleep 60 &\nwait\n")
    server.chmod(0o755)
    (tmp_path / ".bashrc").write_text(f"export PATH={server.parent}:$PATH\n")
    started = tmp_path / "started"
    try:
        for _ in range(2):
            as_ray = command_runner._with_interactive(command.replace("mlflow server", f"{name} server"))
            subprocess.run(
                ["bash", "-c", " ".join(as_ray)],
                env={**os.environ, "HOME": str(tmp_path)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=True,
            )
            deadline = time.monotonic() + 20
            while not started.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
        time.sleep(0.5)  # for a second one
        assert len(started.read_text().split()) == 1
    finally:
        for process in started.read_text().split() if started.exists() else ():
            os.kill(int(process), signal.SIGTERM)


def test_the_job_matches_the_kuberay_schema(job: Config) -> None:
    schema = json.loads((ROOT / "tests" / "kuberay_schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(job, schema)


@pytest.mark.parametrize("place", ["spec", "spec.rayClusterSpec", "spec.rayClusterSpec.workerGroupSpecs.0"])
def test_a_misspelt_field_of_the_job_is_rejected(job: Config, place: str) -> None:
    schema = json.loads((ROOT / "tests" / "kuberay_schema.json").read_text())
    part: Any = job
    for step in place.split("."):
        part = part[int(step)] if step.isdecimal() else part[step]
    part["minReplica"] = 0
    with pytest.raises(jsonschema.ValidationError, match="minReplica"):
        jsonschema.validate(job, schema)


def as_seen_by_the_autoscaler(job: Config) -> Config:
    """The job's cluster as parsed by Ray's autoscaler in the head's pod."""
    resource = {
        "metadata": {"name": "undertow", "namespace": "default"},
        "spec": job["spec"]["rayClusterSpec"],
    }
    return dict(autoscaling_config._derive_autoscaling_config_from_ray_cr(resource))


def test_gpu_pods_scale_from_zero_to_the_planned_number(job: Config) -> None:
    seen = as_seen_by_the_autoscaler(job)
    assert started(seen, [])["gpu"] == 0
    assert started(seen, [{"GPU": 1.0, "CPU": 1.0}] * 3)["gpu"] == 3
    assert "GPU" not in seen["available_node_types"][seen["head_node_type"]]["resources"]
    head, workers = head_and_workers(job)
    (planned,) = (entry["value"] for entry in head["env"] if entry["name"] == "UNDERTOW_GPUS")
    most, each = started(seen, [{"GPU": 1.0}] * 99)["gpu"], workers["resources"]["limits"]["nvidia.com/gpu"]
    assert planned == f"{most}x{each}"


def test_the_job_has_pinned_versions_authentication_and_limits(job: Config) -> None:
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == version("ray")
    assert cluster["authOptions"] == {"mode": "token"}
    for container in head_and_workers(job):
        assert re.fullmatch(r".+:\d+\.\d+\.\d+", container["image"])
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert {"RAY_ENABLE_UV_RUN_RUNTIME_ENV", "MLFLOW_TRACKING_URI"} <= {
            e["name"] for e in container["env"]
        }
    assert job["spec"]["shutdownAfterJobFinishes"] is True


def head_and_workers(job: Config) -> tuple[Config, Config]:
    """The containers that run Ray, of the head and of the workers."""
    cluster = job["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    head, worker = (spec["template"]["spec"]["containers"][0] for spec in (cluster["headGroupSpec"], group))
    return head, worker


def for_ssh() -> Config:
    return dict(yaml.safe_load((ROOT / "platform" / "ssh-cluster.yaml").read_text()))


@pytest.fixture
def machines() -> Config:
    return for_ssh()


def test_ray_accepts_the_file_for_machines_over_ssh_and_keeps_all_of_them(machines: Config) -> None:
    prepared = prepare_config(machines)
    validate_config(prepared)
    (kind,) = prepared["available_node_types"].values()
    assert kind["min_workers"] == kind["max_workers"] == len(machines["provider"]["worker_ips"])


def test_machines_over_ssh_require_the_token_and_keep_the_environment(machines: Config) -> None:
    for role in ("head", "worker"):
        (start,) = (command for command in machines[f"{role}_start_ray_commands"] if "ray start" in command)
        for setting in ("RAY_AUTH_MODE=token", "RAY_ENABLE_UV_RUN_RUNTIME_ENV=0"):
            assert setting in start.split("ray start")[0]


@pytest.mark.parametrize("make", [for_aws, for_google, for_ssh])
def test_machines_get_the_token_and_the_files_of_the_set_up_only(make: Callable[[], Config]) -> None:
    """Ray reads every file of a mount when `ray up` starts, also those that `rsync_exclude` names."""
    mounts = make()["file_mounts"]
    assert sorted(mounts.values()) == ["README.md", "platform", "pyproject.toml", "~/.ray/auth_token"]
    for there, here in mounts.items():
        if here.startswith("~"):
            assert there.endswith("/.ray/auth_token")
        else:
            assert there.endswith(f"/undertow/{here}")
            assert (ROOT / here).exists()


def test_the_slurm_script_is_valid_and_asks_for_what_a_sweep_needs() -> None:
    script = ROOT / "platform" / "slurm.sbatch"
    subprocess.run(["bash", "-n", str(script)], check=True)
    head, _, _ = script.read_text().partition("\nset -")  # sbatch reads options up to the first command
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", head, re.MULTILINE))
    assert options["signal"].startswith("B:USR1@")
    assert {"requeue", "exclusive"} <= options.keys()
    assert (options["ntasks-per-node"], options["mem"], options["open-mode"]) == ("1", "0", "append")

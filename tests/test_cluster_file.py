"""cluster.yaml against Ray itself, offline: its schema, and what its scheduler would start."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil

ROOT = Path(__file__).resolve().parent.parent
ON_WORKERS = ("gpu_spot", "gpu_on_demand")


@pytest.fixture
def cluster() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "cluster.yaml").read_text()))


def started(cluster: dict[str, Any], demand: list[dict[str, float]], **state: Any) -> Counter[str]:
    """How many machines of which type Ray would start for this demand, the head apart."""
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


def test_ray_accepts_the_file(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(cluster))


def test_ray_refuses_a_misspelt_key(cluster: dict[str, Any]) -> None:
    cluster["available_node_types"]["head"]["resource"] = {}
    with pytest.raises(Exception, match="resource"):
        validate_config(prepare_config(cluster))


def test_nothing_with_a_gpu_runs_without_work(cluster: dict[str, Any]) -> None:
    assert not any(started(cluster, [])[kind] for kind in ON_WORKERS)


def test_gpu_work_starts_spot_machines_first(cluster: dict[str, Any]) -> None:
    assert started(cluster, [{"GPU": 1.0}] * 3)["gpu_spot"] == 3


def test_refused_spot_capacity_falls_back_to_on_demand(cluster: dict[str, Any]) -> None:
    refused = {"gpu_spot": 0.0}
    got = started(cluster, [{"GPU": 1.0}] * 2, recoverable_resource_availabilities=refused)
    assert got["gpu_on_demand"] == 2


def test_never_more_workers_than_the_limit(cluster: dict[str, Any]) -> None:
    got = started(cluster, [{"GPU": 1.0}] * 50)
    assert sum(got[kind] for kind in ON_WORKERS) <= cluster["max_workers"]


def test_small_tasks_cost_no_gpu_machine(cluster: dict[str, Any]) -> None:
    got = started(cluster, [{"CPU": 1.0}])
    assert not any(got[kind] for kind in ON_WORKERS)
    assert "GPU" not in cluster["available_node_types"]["head"]["resources"]


@pytest.mark.parametrize("role", ["head", "worker"])
def test_every_ray_process_wants_the_token_and_leaves_the_environment_alone(
    cluster: dict[str, Any], role: str
) -> None:
    (start,) = (command for command in cluster[f"{role}_start_ray_commands"] if "ray start" in command)
    for setting in ("RAY_AUTH_MODE=token", "RAY_ENABLE_UV_RUN_RUNTIME_ENV=0", "MLFLOW_TRACKING_URI="):
        assert setting in start.split("ray start")[0]
